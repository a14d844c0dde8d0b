"""The experts, one file each, with the gate that trusts them and the fusion that adds them up.

`registry.Parts` builds those that a configuration names; `expert` has the protocol that a new one follows
(docs/new-expert.md).
"""

from models.experts.expert import Dense, Expert, LearnedEvent, OptionalExpert, Reviser
from models.experts.registry import OPTIONAL, Parts

__all__ = ["OPTIONAL", "Dense", "Expert", "LearnedEvent", "OptionalExpert", "Parts", "Reviser"]
