"""What every process of a worker is made of: its shape, its health, and how it waits for servers that are away."""

from headwater.process.operations import EXIT_DRAINED, EXIT_STALLED, EXIT_WRONG, Operations
from headwater.process.retry import Backoff, Retry, Stopped, passes
from headwater.process.worker import Worker, run_worker

__all__ = [
    "EXIT_DRAINED",
    "EXIT_STALLED",
    "EXIT_WRONG",
    "Backoff",
    "Operations",
    "Retry",
    "Stopped",
    "Worker",
    "passes",
    "run_worker",
]
