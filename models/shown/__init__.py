"""What a learner makes of lists that were shown: which items were reacted to, and how likely that was.

`lists` puts it together for the learner: `waiting` joins lists with what follows; `rates` counts; `habits` say how
somebody goes through lists; `facts` tells of an item in a list; `clicks` learns the chance of a reaction. `showings`
says how often a user was shown an item, for `experts.fatigue`. Knows no Kafka, and no clock but event time.
"""
