"""The trainer: training examples in, published models out. Run it with `python -m trainer.worker`."""
