"""Looking at what runs: topics and lags, metrics, models, one event's way, and a check of it all. Nothing is changed.

Before: commands. After: Kafka, the store, the workers' ports. Modules are imported one by one, where they are used.
"""
