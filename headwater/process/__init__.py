"""What every process of a worker is made of: its shape, its health, and how it waits for servers that are away."""

from headwater.process.collecting import RARELY, collect_rarely
from headwater.process.masks import key_text
from headwater.process.operations import (
    EXIT_DRAINED,
    EXIT_STALLED,
    EXIT_WRONG,
    START_S,
    Operations,
    family_of,
    in_url,
)
from headwater.process.retry import Backoff, Retry, Stopped, passes, refusal
from headwater.process.worker import Worker, run_worker

__all__ = [
    "EXIT_DRAINED",
    "EXIT_STALLED",
    "EXIT_WRONG",
    "RARELY",
    "START_S",
    "Backoff",
    "Operations",
    "Retry",
    "Stopped",
    "Worker",
    "collect_rarely",
    "family_of",
    "in_url",
    "key_text",
    "passes",
    "refusal",
    "run_worker",
]
