"""What can go wrong, by name. Each fault is one function: it does its harm, sees that the harm is done, yields in words
what it did, and mends afterwards what does not mend itself.

Before: a schedule names them. After: `chaos.campaign` holds each for its time and looks how long the world takes to be
well again. A fault that found nothing to harm raises NoEffect and is not counted.
"""

from chaos.faults import bundles, clocks, cluster, disk, learning, records, servers, store, workers
from chaos.faults.fault import Fault, NoEffect, Stage

__all__ = ["FAULTS", "Fault", "NoEffect", "Stage"]

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (workers, servers, store, cluster, disk, bundles, learning, clocks, records)
    for fault in module.FAULTS
}
"""Name -> fault."""
