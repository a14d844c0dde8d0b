"""Looking at what runs: topics and lags, metrics, models, one event's way, and a check of it all. Nothing is changed.

Modules are imported one by one, where they are used.
"""
