"""How good the recommendations are on real streams, beside every peer: one command for each data set."""
