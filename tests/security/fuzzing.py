"""Mutated inputs for every decoder of a record and for what reads bundles: nothing but declared errors, no hang,
bounded memory.

    python -m tests.security.fuzzing --inputs 1000000 --seed 7 [--only NAME ...]

Each input is a genuine one with a few changes: bytes, spans, numbers, and values of its JSON. Where a checksum would
keep a change from what lies behind it, it is made anew. The same seed makes the same inputs; a failure is written down
with all of them. `test_fuzz.py` has the small form, whose random choices Hypothesis makes and shrinks.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

__all__ = ["Decoder", "Failure", "decoders", "fuzz", "mutated", "tried"]

Parts = tuple[bytes | None, ...]
"""What a decoder takes: key, value and headers, or the files of a bundle."""

MOST_CPU_S = 5
"""Of one input."""

MOST_GROWTH_MB = 300
"""Of the process while one decoder has its inputs."""

WILD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**31 - 1, 2**32, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, -0.0,
    5e-324,
    "", "\x00", "../../etc/passwd", "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "9" * 400, "x" * 3000,
    [], {}, [[]], [{}], {"": None}, [None] * 40, "1e999", "true", "2026-01-01T00:00:00Z", "-1-1-1",
]  # fmt: skip

BYTES = [
    b"", b"\x00", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"9" * 5000, b"[" * 2000,
    b"{\"a\":" * 1500,
    b"NaN", b"1e400", b"-", b"\xed\xa0\x80", b"null", b"\x04\x22\x4d\x18", b"\x1f\x8b\x08\x00",
]  # fmt: skip


class Decoder(NamedTuple):
    """One reader of what others wrote.

    Fields
        name: for people.
        samples: genuine inputs.
        call: reads one; an InvalidMessage that is returned is no failure.
        declared: what it may raise.
        share: of the inputs, beside others: one that takes long gets fewer.
    """

    name: str
    samples: Sequence[Parts]
    call: Callable[[Parts], Any]
    declared: tuple[type[BaseException], ...]
    share: float = 1.0


class Failure(NamedTuple):
    """An input that a decoder did not stand."""

    decoder: str
    error: BaseException
    parts: Parts


class Hang(Exception):
    """It took more processor time than an input may."""


def mutated(choose: random.Random, sample: Parts, others: Sequence[Parts]) -> Parts:
    """An input with one to four changes."""
    parts = list(sample)
    for _ in range(choose.randint(1, 4)):
        place = choose.randrange(len(parts))
        part = parts[place]
        if part is None or choose.random() < 0.01:
            parts[place] = choose.choice([None, b"", b"x"])
        elif part[:1] in (b"{", b"[") and choose.random() < 0.6:
            parts[place] = _json(choose, part)
        else:
            parts[place] = _bytes(choose, part, choose.choice(others)[place] or b"")
    return tuple(parts)


def _json(choose: random.Random, part: bytes) -> bytes:
    try:
        return orjson.dumps(_changed(choose, orjson.loads(part)))
    except (orjson.JSONDecodeError, TypeError):
        return _bytes(choose, part, part)


def _changed(choose: random.Random, body: Any) -> Any:
    """One value of a JSON tree replaced, doubled, left out or put under another name."""
    if not body or not isinstance(body, dict | list) or choose.random() < 0.15:
        return choose.choice(WILD)
    place = choose.choice(list(body)) if isinstance(body, dict) else choose.randrange(len(body))
    what = choose.random()
    if what < 0.08:
        del body[place]
    elif what < 0.12 and isinstance(body, list):
        body.insert(place, body[place])
    elif what < 0.16 and isinstance(body, dict):
        body[choose.choice(["x", "", "format", "items", "\u0000"])] = body.pop(place)
    else:
        body[place] = _changed(choose, body[place])
    return body


def _bytes(choose: random.Random, part: bytes, other: bytes) -> bytes:
    at = choose.randint(0, len(part))
    span = choose.choice([1, 1, 2, 4, 8, 40])
    match choose.randrange(7):
        case 0 if at < len(part):
            return part[:at] + bytes([part[at] ^ 1 << choose.randrange(8)]) + part[at + 1 :]
        case 1:
            return part[:at] + choose.choice(BYTES) + part[at + span :]
        case 2:
            return part[:at] + choose.choice(BYTES) + part[at:]
        case 3:
            return part[:at] + part[at + span :]
        case 4:
            return part[:at]
        case 5:
            begin = choose.randint(0, len(other))
            return part[:at] + other[begin : begin + span * 4] + part[at:]
        case _:
            return part[:at] + bytes(choose.randrange(256) for _ in range(span)) + part[at + span :]


@contextmanager
def limited() -> Iterator[None]:
    """Whatever takes too much processor time within ends with Hang; what is logged of it, nobody wants to read."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {MOST_CPU_S} s of processor time")

    before, log = signal.signal(signal.SIGVTALRM, stop), logging.getLogger("headwater")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def tried(decoder: Decoder, parts: Parts) -> str | Failure:
    """What became of one input: `taken`, or the name of a declared error, or a failure. Call it within `limited`."""
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CPU_S)
    try:
        found = decoder.call(parts)
    except decoder.declared as error:
        return type(error).__name__ + (" internal" if getattr(error, "reason", "") == "internal" else "")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Failure(decoder.name, error, parts)
    refused = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, BaseException)]
    if any(getattr(one, "reason", "") == "internal" for one in refused):
        return "InvalidMessage internal"
    return type(refused[0]).__name__ if refused else "taken"


def fuzz(
    several: Iterable[Decoder], inputs: int, seed: int, told: Callable[[str], None] = lambda _: None
) -> list[Failure]:
    """Give each decoder its share of so many inputs. `told` gets a line for each."""
    chosen = list(several)
    whole, failures = sum(one.share for one in chosen), list[Failure]()
    with limited():
        for decoder in chosen:
            choose, found = random.Random(f"{seed} {decoder.name}"), Counter[str]()
            internal: Parts | None = None
            gc.collect()
            before, begun = _peak_mb(), time.process_time()
            for _ in range(max(int(inputs * decoder.share / whole), 1)):
                parts = mutated(choose, choose.choice(decoder.samples), decoder.samples)
                became = tried(decoder, parts)
                if isinstance(became, Failure):
                    failures.append(became)
                    became = f"FAILED {type(became.error).__name__}"
                elif became.endswith("internal"):
                    internal = internal or parts
                found[became] += 1
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            grown, took = _peak_mb() - before, time.process_time() - begun
            if grown > MOST_GROWTH_MB:
                failures.append(Failure(decoder.name, MemoryError(f"grew by {grown:.0f} MB"), ()))
            said = ", ".join(f"{what} {many:,}" for what, many in found.most_common())
            told(f"{decoder.name:24} {sum(found.values()):>9,} inputs {took:7.1f} s +{grown:4.0f} MB  {said}")
            if internal:
                told(f"    the first that no check foresaw: {internal!r:.600}")
    return failures


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def decoders() -> list[Decoder]:
    """All of them; what each needs is imported here."""
    from tests.security.decoders import backups, bundles, records, states

    return [*records(), *states(), *bundles(), *backups()]


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of decoders")
    given = parser.parse_args()
    known = decoders()
    unknown = set(given.only or ()) - {one.name for one in known}
    if unknown:
        parser.error(f"no decoder {', '.join(unknown)}; there are {', '.join(one.name for one in known)}")
    failures = fuzz((one for one in known if not given.only or one.name in given.only), given.inputs, given.seed, print)
    for failure in failures[:20]:
        print(f"FAILED {failure.decoder}: {failure.error!r:.300}\n    {failure.parts!r:.2000}")
    print(f"{len(failures)} failures; peak {_peak_mb():.0f} MB")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
