"""Reports: a backtest's result, or two side by side, as a page or for a terminal."""

from replay.report.comparison import Comparison, compare, render
from replay.report.page import write_comparison, write_importance, write_report
from replay.report.verdict import best_peer

__all__ = ["Comparison", "best_peer", "compare", "render", "write_comparison", "write_importance", "write_report"]
