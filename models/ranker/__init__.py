"""The ranker: what is added to the fused scores of a query's candidates, by facts of item, person and moment.

`candidates` chooses a few hundred rows; `statistics` counts what is known of each item; `facts` tells of each of the
candidates; `network` says how much is added, and learns it. `second` puts them together for the learner. Serving calls
`candidates` and `facts` with what it reads from a bundle. Knows rows, not item ids.
"""
