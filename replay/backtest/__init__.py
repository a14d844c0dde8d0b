"""Backtests: how good would we have been on a past stream, and beside whom?

A result can be read without what makes one: torch and the peers are loaded when `backtest` is first named.
"""

from typing import TYPE_CHECKING, Any

from replay.backtest.result import Interval, Result, read_result

if TYPE_CHECKING:
    from replay.backtest.run import BacktestProgress, Options, backtest

__all__ = ["BacktestProgress", "Interval", "Options", "Result", "backtest", "read_result"]


def __getattr__(name: str) -> Any:
    if name in ("BacktestProgress", "Options", "backtest"):
        from replay.backtest import run

        return getattr(run, name)
    raise AttributeError(f"module 'replay.backtest' has no attribute {name!r}")
