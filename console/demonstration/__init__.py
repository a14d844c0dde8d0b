"""`headwater demo`, taken apart: feed, visitors, newcomer, figures, view, summary.

Before: `console.commands.demo` parses what a person typed. After: a supervisor's real workers. One file for each thing
that goes on while the demo runs; `run` puts them in order.
"""
