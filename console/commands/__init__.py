"""The commands, one module each: what a person may type, and how the answer is shown.

Before: `console.cli`. After: the other packages, imported when a command runs, so that `headwater --help` is quick.
"""
