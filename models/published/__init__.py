"""What the trainer publishes and serving runs: a model's announcement, bundles, deltas, graph, digest and parity.

Its modules are its face: a reader of announcements need not load what reads bundles, nor that what runs the graph.
"""

__all__ = ["announcement", "bundle", "delta", "digest", "graph", "parity", "publish"]
