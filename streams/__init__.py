"""The streams worker: behaviour into features and training examples."""
