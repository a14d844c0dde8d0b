"""What a person uses: the command line, `up`, `demo`, `doctor`, `trace`, and the pages of the contract.

Before: a person at a terminal, or a script that reads `--json`. After: every other package; nothing imports this one.
"""
