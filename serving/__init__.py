"""The serving worker: requests into recommendations.

Before: the `requests`, `items`, `model` and `model-deltas` topics, and the feature store that the streams worker fills.
After: the `recommendations` topic. Never imports the trainer: the two meet in topics and in `models.published.bundle`.
"""
