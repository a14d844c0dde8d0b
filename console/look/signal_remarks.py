"""What looks wrong about the meaning of event types: a table of signals held against what a stream really has.

Before: `signal_census`. After: `headwater signals` prints the remarks and the settings to write; `headwater doctor`
names them. Each check takes one kind of mistake; none knows where the events came from.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from console.look.signal_census import TypeSeen
from headwater.consent import CONSENT
from headwater.events import EVENT_TYPE_PATTERN
from headwater.privacy import FORGET
from headwater.signals import DEFAULTS, Meaning, Signal, Signals

__all__ = ["Remark", "remarks", "toml_of"]

MOST_NAMED = 10

FEW = 20
"""Fewer events of a type than this say nothing about values and shares."""

MANY_NEGATIVE = 0.5
"""Share of all votes above which what people turn down is more than what they choose, which is rare."""

ALIKE = 0.8
"""How much a name resembles another (difflib's ratio) before it is taken for a misspelt one."""

SERVED = "served"


def _set(names: str) -> frozenset[str]:
    """Names, each also without what is between its words."""
    return frozenset(one for name in names.split() for one in (name, name.replace("_", "")))


EXPOSURE_WORDS = _set(
    "impression impressions impr imp imps shown exposure exposures exposed display displayed served rendered viewport "
    "viewable view_item_list product_list_viewed ranking list_view view_list"
)
NEGATIVE_WORDS = _set(
    "dismiss dismissed dislike disliked hate hated skip skipped hide hidden block blocked mute muted downvote "
    "downvoted reject rejected spam nope not_interested uninterested thumbs_down swipe_left see_less show_less "
    "less_like_this report reported negative dont not never"
)
CONTEXT_WORDS = _set(
    "search searched query filter filters filtered sort sorted scroll navigate navigation login logout"
)
RATING_WORDS = _set("rating ratings rate rated review reviewed stars star score grade")
UNDO_WORDS = _set(
    "remove removed delete deleted cancel cancelled canceled undo revoke revoked refund refunded return returned"
)


@dataclass(frozen=True)
class Remark:
    """One thing that looks wrong.

    Fields
        type: of event; empty where it is about all.
        state: `wrong` is learned the wrong way round or not at all; a `note` may be meant so.
        text: what is there, and what comes of it.
        write: the settings that would mend it, as TOML.
    """

    type: str
    state: Literal["note", "wrong"]
    text: str
    write: str = ""


def remarks(stream: Mapping[str, TypeSeen], given: Mapping[str, Signal], *, served: bool = True) -> list[Remark]:
    """What looks wrong, the worst first.

    Parameters
        stream: what there is of each type; empty where nothing was seen, which leaves the settings to look at.
        given: the settings `[signals.NAME]`.
        served: whether the engine sends its own lists as exposures (`serving.exposures`).
    """
    stream = {kind: seen for kind, seen in stream.items() if kind not in (FORGET, CONSENT)}  # ours
    signals = Signals(given)
    found = [*_settings(given, stream)]
    unknown: list[str] = []
    for kind, seen in stream.items():
        named = next(_named_otherwise(kind, signals, stream), None)
        if named is not None:
            found.append(named)
        elif not signals.knows(kind):
            unknown.append(kind)
        found += _values(kind, seen, signals.of(kind))
        found += _lists(kind, seen, signals.of(kind))
        found += _undoing(kind, signals, stream)
    found += _unknown(unknown, stream)
    found += _spellings(stream, signals)
    found += _votes(stream, signals)
    if served:
        found += _shown_twice(stream)
    return sorted(found, key=lambda one: one.state != "wrong")


def toml_of(found: Iterable[Remark]) -> str:
    """The settings that the remarks propose, of each section the first, as one text to copy."""
    sections: dict[str, str] = {}
    for section in (section for one in found if one.write for section in one.write.split("\n\n")):
        sections.setdefault(section.partition("\n")[0], section)
    return "\n\n".join(sections.values())


def _unknown(kinds: Sequence[str], stream: Mapping[str, TypeSeen]) -> Iterator[Remark]:
    """What nobody has given a meaning, and whose name says none."""
    if kinds:
        told = ", ".join(f"{kind} ({stream[kind].events:,})" for kind in kinds[:MOST_NAMED])
        told += f" and {len(kinds) - MOST_NAMED} more" if len(kinds) > MOST_NAMED else ""
        text = f"nobody has given a meaning to {told}: each event counts for its item, with weight 1"
        write = "\n\n".join(_section(kind, 'means = "positive"') for kind in kinds)
        yield Remark(kinds[0] if len(kinds) == 1 else "", "note", text, write)


def _section(kind: str, *lines: str) -> str:
    name = kind if re.fullmatch(r"[a-z0-9_-]+", kind) else f'"{kind}"'
    return "\n".join([f"[signals.{name}]", *lines])


def _of(count: int) -> str:
    return f"{count:,} event" + ("s" if count != 1 else "")


def _words(kind: str) -> set[str]:
    """The words of a name, and the name itself with and without what is between them."""
    return {*re.split(r"[_.\-]", kind), re.sub(r"[.\-]", "_", kind), _plain(kind)}


def _plain(kind: str) -> str:
    return re.sub(r"[_.\-]", "", kind)


def _settings(given: Mapping[str, Signal], stream: Mapping[str, TypeSeen]) -> Iterator[Remark]:
    """Meanings that no event will ever have."""
    for kind in given:
        if re.fullmatch(EVENT_TYPE_PATTERN, kind) is None:
            plain = re.sub(r"[^a-z0-9]", "", kind.lower())
            like = [one for one in stream if _plain(one) == plain] or [re.sub(r"[^a-z0-9_.\-]", "_", kind.lower())]
            text = "no event has such a type: types are short lower-case words, and files are read as such"
            yield Remark(kind, "wrong", f"the settings name it, and {text}. Write {' or '.join(like)}")
        elif stream and kind not in stream:
            like = [one for one in difflib.get_close_matches(kind, stream, 3, ALIKE) if one not in given]
            if like:
                yield Remark(kind, "wrong", f"the settings name it and no event has it; did somebody mean {like[0]}?")


def _named_otherwise(kind: str, signals: Signals, stream: Mapping[str, TypeSeen]) -> Iterator[Remark]:
    """A name that says another meaning than the table does. One remark a type is enough."""
    signal, words = signals.of(kind), _words(kind)
    if signal.by_value or signal.means is not Meaning.POSITIVE:
        return
    why = "is positive" if signals.knows(kind) else "is positive for want of a meaning"
    undone = _undone_by(kind, stream)
    if undone:
        text = f"it is named like the taking back of {', '.join(undone)} and {why}: each event counts for its item"
        yield Remark(kind, "wrong", text, _section(kind, f"undoes = [{', '.join(map(_quoted, undone))}]"))
    elif words & EXPOSURE_WORDS or "impression" in kind:
        text = f"it is named like something that was shown and {why}: what is shown would be learned as what is chosen"
        yield Remark(kind, "wrong", text, _section(kind, 'means = "exposure"'))
    elif words & CONTEXT_WORDS and not signals.knows(kind):
        text = f"it is named like something that is done with no item and {why}: each event counts for its item"
        yield Remark(kind, "note", text, _section(kind, 'means = "context"'))
    elif words & NEGATIVE_WORDS:
        text = f"it is named like something that was turned down and {why}: each event counts for its item"
        yield Remark(kind, "wrong", text, _section(kind, 'means = "negative"'))


def _quoted(text: str) -> str:
    return f'"{text}"'


def _undone_by(kind: str, stream: Mapping[str, TypeSeen]) -> list[str]:
    """What a type undoes, by its name: of the stream's types, else of those that have a meaning by default."""
    plain, words = _plain(kind), re.split(r"[_.\-]", kind)
    for known in (stream, DEFAULTS):
        found = []
        for other in known:
            base = _plain(other)
            if other == kind or len(base) < 3 or base == plain or _words(other) & UNDO_WORDS:
                continue
            if plain == f"un{base}" or plain == f"un{base}d" or (words[0] in UNDO_WORDS and base in _words(kind)):
                found.append(other)
        if found:
            return found
    return []


def _values(kind: str, seen: TypeSeen, signal: Signal) -> Iterator[Remark]:
    """Thresholds and rewards that do not fit the values."""
    if isinstance(signal.reward, str) and not seen.valued and signal.weight is None:
        text = f'its reward is "{signal.reward}" and none of {_of(seen.events)} has a value: none weighs anything'
        yield Remark(kind, "wrong", text, _section(kind, "reward = 1"))
    if signal.by_value:
        yield from _thresholds(kind, seen, signal)
    elif signal.means is Meaning.POSITIVE and seen.valued >= FEW:
        low = sum(value < 0 for value in seen.sample) / len(seen.sample)
        if low:
            text = f"{low:.1%} of its values are below 0, and it is positive whatever the value"
            yield Remark(kind, "note", text, _section(kind, 'positive = "> 0"', 'negative = "< 0"'))
        elif _words(kind) & RATING_WORDS and 1 < seen.highest <= 100 and seen.highest > seen.lowest:
            yield from _rating(kind, seen)


def _rating(kind: str, seen: TypeSeen) -> Iterator[Remark]:
    """Stars that count for their item however few they are."""
    lowest = min(seen.lowest, 1.0)
    step = 1.0 if all(value == int(value) for value in seen.sample) else 0.5
    liked = -(-(lowest + 0.75 * (seen.highest - lowest)) // step) * step
    disliked = (lowest + 0.25 * (seen.highest - lowest)) // step * step
    low = sum(value <= disliked for value in seen.sample) / len(seen.sample)
    if low:
        text = (
            f"{low:.1%} of its values ({seen.lowest:g} .. {seen.highest:g}) are {disliked:g} or less and count for "
            "their items: without thresholds a rating is positive whatever it is"
        )
        yield Remark(kind, "note", text, _section(kind, f'positive = ">= {liked:g}"', f'negative = "<= {disliked:g}"'))


def _thresholds(kind: str, seen: TypeSeen, signal: Signal) -> Iterator[Remark]:
    if not seen.valued:
        text = f"its meaning depends on the value, and none of {_of(seen.events)} has one: all are context"
        yield Remark(kind, "wrong", text)
        return
    none = 1 - seen.valued / seen.events
    if none > 0.01:
        yield Remark(kind, "note", f"{none:.1%} of its events have no value, and are context by the thresholds")
    values = f"values are {seen.lowest:g} .. {seen.highest:g}"
    for meaning, threshold in ((Meaning.POSITIVE, signal.positive), (Meaning.NEGATIVE, signal.negative)):
        if threshold is None or seen.valued < FEW:
            continue
        count = sum(Signal(**{meaning.value: threshold}).meaning(value) is meaning for value in seen.sample)
        if not count:
            state: Literal["note", "wrong"] = "wrong" if meaning is Meaning.POSITIVE else "note"
            yield Remark(kind, state, f'no value is {meaning.value} ("{threshold}"): {values}')
        elif count == len(seen.sample):
            yield Remark(kind, "note", f'every value is {meaning.value} ("{threshold}"): {values}')
    if signal.positive and signal.negative:
        against = Signal(negative=signal.negative)
        both = sum(
            against.meaning(value) is Meaning.NEGATIVE and signal.meaning(value) is Meaning.POSITIVE
            for value in seen.sample
        )
        if both:
            text = f"{both / len(seen.sample):.1%} of its values meet both thresholds, and are positive"
            yield Remark(kind, "note", text)


def _lists(kind: str, seen: TypeSeen, signal: Signal) -> Iterator[Remark]:
    """Lists on what is no exposure; exposures that nothing can be joined with."""
    if signal.means is not Meaning.EXPOSURE or signal.by_value:
        if seen.lists:
            text = f"{seen.lists:,} of its events carry a list (items) and it is no exposure: the workers refuse such"
            if 2 * seen.lists > seen.events:
                yield Remark(kind, "wrong", text, _section(kind, 'means = "exposure"'))
            else:  # what the others say of their items would be lost
                text += ". Send a list as type impression, and one event for each item chosen"
                yield Remark(kind, "wrong", text)
        return
    alone = [] if seen.lists else [value for value in seen.sample if value < 1 or value != int(value)]
    if alone:
        text = (
            f"the value of an impression is its place, from 1, and {len(alone) / len(seen.sample):.0%} of its are none"
        )
        yield Remark(kind, "note", text)
    if not seen.lists and not seen.joined:
        text = (
            "its events carry neither a list (items) nor a request_id: each item is a list of its own, so what was "
            "chosen is not compared with what stood beside it"
        )
        yield Remark(kind, "note", text)


def _undoing(kind: str, signals: Signals, stream: Mapping[str, TypeSeen]) -> Iterator[Remark]:
    """An undo that has nothing to take back."""
    undone = signals.of(kind).undoes
    if undone and not set(undone) & stream.keys():
        text = f"it undoes {', '.join(undone)}, of which there is no event: it takes nothing back"
        like = [one for one in _undone_by(kind, stream) if one in stream]
        write = _section(kind, f"undoes = [{', '.join(map(_quoted, like))}]") if like else ""
        yield Remark(kind, "note", text, write)


def _spellings(stream: Mapping[str, TypeSeen], signals: Signals) -> Iterator[Remark]:
    """One type in several spellings."""
    spelled: dict[str, list[str]] = {}
    for kind in stream:
        spelled.setdefault(_plain(kind), []).append(kind)
    for names in spelled.values():
        if len(names) < 2:
            continue
        alike = len({signals.of(name) for name in names}) == 1
        counts = ", ".join(f"{name} {stream[name].events:,}" for name in names)
        apart = "they mean the same, and count as two types" if alike else "and they do not mean the same"
        yield Remark(names[0], "note" if alike else "wrong", f"one type in {len(names)} spellings ({counts}); {apart}")


def _votes(stream: Mapping[str, TypeSeen], signals: Signals) -> Iterator[Remark]:
    """A stream that says nothing for any item, or more against than for."""
    total: Counter[Meaning] = Counter()
    for seen in stream.values():
        total += seen.means
    if not total:
        return
    if not total[Meaning.POSITIVE]:
        yield Remark("", "wrong", f"none of {_of(total.total())} speaks for its item: nothing is learned")
        return
    votes = total[Meaning.POSITIVE] + total[Meaning.NEGATIVE]
    if votes >= FEW and total[Meaning.NEGATIVE] / votes > MANY_NEGATIVE:
        most = max(stream, key=lambda kind: stream[kind].means[Meaning.NEGATIVE])
        share = total[Meaning.NEGATIVE] / votes
        text = (
            f"{share:.0%} of all votes are against their items, most of them {most}. Does each of these say: not this? "
            "If a player or a feed sends it by itself, it is an exposure, or weighs less"
        )
        by_value = signals.of(most).by_value
        yield Remark(most, "note", text, "" if by_value else _section(most, 'means = "negative"', "weight = 1"))


def _shown_twice(stream: Mapping[str, TypeSeen]) -> Iterator[Remark]:
    """The engine's lists and the app's own impressions of them, which nothing joins."""
    if SERVED not in stream:
        return
    for kind, seen in stream.items():
        if kind != SERVED and seen.means[Meaning.EXPOSURE] and seen.joined < seen.events / 2:
            text = (
                f"the app says what it shows, beside the engine's own {SERVED}, and does not name the request that "
                "its lists answer: one that was shown once counts twice. Send request_id, or leave the engine's out"
            )
            yield Remark(kind, "note", text, "[serving]\nexposures = false")
            return
