"""What is known of users and items: the pure fold and its state, and the store that keeps them in Redis.

Modules are imported one by one: who folds without a store, as a backtest does, loads no Redis.
"""
