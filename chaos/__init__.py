"""Campaigns: the whole engine under a known load, broken in every way by a seeded schedule, and then judged.

Before: `headwater chaos`. After: a report of what was broken, how soon all was well, and which promise did not hold.
Stands beside the house: it starts the engine's processes as the console does, and nothing but the console's command
imports it.
"""
