"""`python -m console` is the `headwater` command, for a checkout that is not installed."""

from console.cli import main

main()
