"""The experts, one file each, with the gate that trusts them and the fusion that adds them up.

`registry.Parts` builds those that a configuration names, and loads torch; `expert` has the protocol that a new one
follows (docs/new-expert.md).
"""

from models.experts.expert import Dense, Expert, LearnedEvent, OptionalExpert, Reviser

__all__ = ["Dense", "Expert", "LearnedEvent", "OptionalExpert", "Reviser"]
