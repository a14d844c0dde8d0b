"""The encoder of the newest events, in torch, and all that trains it: batches, losses, optimizer, replay, rehearsal."""

from models.sequence.batches import Sequences
from models.sequence.encoder import Encoder
from models.sequence.history import History
from models.sequence.rehearsal import Plan, Rehearsal

__all__ = ["Encoder", "History", "Plan", "Rehearsal", "Sequences"]
