"""Which examples of a log teach what: no user teaches more than people can (`teaching`), and the slow part learns a
share of the blocks where more comes than it can learn (`pace`)."""
