"""`headwater rebuild`, `backup` and `restore`: what is done when something was lost, and before."""
