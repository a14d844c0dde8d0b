"""The front door: HTTP in front of the SDK, for whoever does not speak Kafka. docs/api.md

It writes to Kafka and reads replies through `headwater.Client`: the same contract, and no second path to the data. It
keeps nothing, so any number run behind a balancer.
"""
