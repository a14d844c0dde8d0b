"""Whatever a delta, a bundle or an examples record holds, its reader raises its own error and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from headwater.errors import BundleError, InvalidMessage
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example, Segment, pack_items, pack_segments, unpack
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler, encode_delta
from models.published.layout import unpack_bundle
from models.published.packed_weights import pack_arrays
from models.published.stores.folder import read_bundle, write_bundle
from tests.worlds.serving import FILMS, trained, walk

MAGIC = b"HWD\x01"
WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 10**18, -1, 1e308, -0.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def learner() -> Learner:
    return trained()


@pytest.fixture(scope="module")
def held(learner: Learner) -> Bundle:
    made = learner.publish(created_ms=1, full=True)
    assert isinstance(made, Bundle)
    return made


@pytest.fixture(scope="module")
def delta(learner: Learner, held: Bundle) -> Delta:
    walk(learner, "more", [*FILMS, "film-new"], 1000 * held.version)
    made = learner.publish(created_ms=2)
    assert isinstance(made, Delta)
    return made


def sealed(head: Any, piece: bytes) -> bytes:
    packed = head if isinstance(head, bytes) else orjson.dumps(head)
    rest = struct.pack("<I", len(packed)) + packed + piece
    return MAGIC + hashlib.sha256(rest).digest() + rest


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<I", data[36:40])
    return orjson.loads(data[40 : 40 + length]), data[40 + length :]


def changed_somewhere(draw: Any, body: Any) -> Any:
    """One value anywhere in a JSON tree replaced, left out or added to."""
    if not body or not isinstance(body, dict | list) or draw(st.integers(0, 3)) == 0:
        return draw(WILD)
    place = draw(st.sampled_from(list(body) if isinstance(body, dict) else list(range(len(body)))))
    if draw(st.integers(0, 9)) == 0:
        del body[place]
    else:
        body[place] = changed_somewhere(draw, body[place])
    return body


def dumped(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # integers over 64 bits, lone surrogates
        return b"9" * 400


@quick
@given(st.data())
def test_a_part_with_any_head_is_taken_or_refused_and_so_is_the_good_one_after_it(
    delta: Delta, data: st.DataObject
) -> None:
    (good,) = encode_delta(delta)
    head, piece = opened(good)
    assembler = DeltaAssembler()
    with contextlib.suppress(BundleError):
        assembler.add(sealed(dumped(changed_somewhere(data.draw, head)), piece))
    with contextlib.suppress(BundleError):
        assembler.add(good)


@quick
@given(st.data())
def test_a_payload_with_any_head_or_arrays_is_taken_or_refused(held: Bundle, delta: Delta, data: st.DataObject) -> None:
    head, payload = opened(encode_delta(delta)[0])
    (length,) = struct.unpack("<Q", payload[:8])
    about, tensors = orjson.loads(payload[8 : 8 + length]), payload[8 + length :]
    if data.draw(st.booleans()):
        about = changed_somewhere(data.draw, about)
    else:
        at = data.draw(st.integers(0, len(tensors) - 1))
        tensors = tensors[:at] + data.draw(st.binary(max_size=8)) + tensors[at + data.draw(st.integers(0, 8)) :]
    packed = dumped(about)
    with contextlib.suppress(BundleError):
        made = DeltaAssembler().add(sealed(head, struct.pack("<Q", len(packed)) + packed + tensors))
        assert made is not None
        held.copy().apply(made)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("capacity", 2**30, "rows"),
        ("capacity", 1, "rows"),
        ("types", [f"t{n}" for n in range(2000)], "event types"),
        ("items", [(10**6, "x")], "an item for row"),
        ("items", [(2**31 - 1, None)], "an item for row"),
    ],
)
def test_what_a_delta_claims_is_held_against_the_model_before_anything_is_written(
    held: Bundle, delta: Delta, field: str, value: Any, told: str
) -> None:
    ours = held.copy()
    with pytest.raises(BundleError, match=told):
        ours.apply(replace(delta, **{field: value}))
    ours.apply(delta)
    assert ours.digest == delta.digest


@pytest.mark.parametrize("wrong", ["unknown", "shape", "dtype", "place", "negative", "row numbers"])
def test_arrays_that_do_not_fit_are_refused_before_anything_is_written(held: Bundle, delta: Delta, wrong: str) -> None:
    ours = held.copy()
    rows, dense = dict(delta.rows), dict(delta.dense)
    ids = next(name for fills in held.pools.values() for name, fill in fills.items() if fill is None)
    where, values = rows[ids]
    match wrong:
        case "unknown":
            dense["nobody"] = np.zeros(3, np.float32)
        case "shape":
            dense["popularity_now"] = np.zeros(77, np.float32)
        case "dtype":
            rows[ids] = (where, values.astype(np.float64))
        case "place":
            rows[ids] = (where + 10**9, values)
        case "negative":
            rows[ids] = (where - 10**9, values)
        case _:
            rows[ids] = (where, values + 10**6)
    with pytest.raises(BundleError):
        ours.apply(replace(delta, rows=rows, dense=dense))
    ours.apply(delta)
    assert ours.digest == delta.digest


@pytest.mark.parametrize(("told", "why"), [(("start", "size"), "runs beyond"), (("start",), "of other rows")])
def test_runs_that_a_delta_tells_whole_lie_within_their_pool(
    held: Bundle, delta: Delta, told: tuple[str, ...], why: str
) -> None:
    ids = next(name for fills in held.pools.values() for name, fill in fills.items() if fill is None)
    runs = [ids.replace("_ids", f"_{one}") for one in ("start", "size")]
    rows = {name: given for name, given in delta.rows.items() if name not in runs}
    wild = {name: np.full(delta.capacity, 10**6, held.weights[name].dtype) for name in runs if name.endswith(told)}
    with pytest.raises(BundleError, match=why):  # before the digest is reckoned, which a sender may know, too
        held.copy().apply(replace(delta, rows=rows, dense={**delta.dense, **wild}))


@quick
@given(st.data())
def test_a_bundle_whose_files_say_anything_is_read_or_refused(
    held: Bundle, tmp_path: Path, data: st.DataObject
) -> None:
    path = write_bundle(tmp_path, held)
    good = {file.name: file.read_bytes() for file in path.iterdir()}
    metadata = orjson.loads(good["metadata.json"])
    match data.draw(st.sampled_from(["metadata", "items", "weights"])):
        case "metadata":
            metadata = changed_somewhere(data.draw, metadata)
        case "items":
            (path / "items.json").write_bytes(dumped(changed_somewhere(data.draw, orjson.loads(good["items.json"]))))
        case _:
            name = data.draw(st.sampled_from(sorted(held.weights)))
            shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
            arrays = {**held.weights, name: np.zeros(shape, data.draw(st.sampled_from(["f4", "i8", "u1"])))}
            packed = bytearray(b"".join(pack_arrays(arrays)))
            for _ in range(data.draw(st.integers(0, 2))):
                packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
            (path / "weights.packed").write_bytes(packed[: data.draw(st.sampled_from([None, None, -1, 100]))])
    if isinstance(metadata, dict) and isinstance(metadata.get("sha256"), dict):
        for name in ("items.json", "weights.packed"):
            metadata["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "metadata.json").write_bytes(dumped(metadata))
    with contextlib.suppress(BundleError):
        read_bundle(path)
    for name, content in good.items():
        (path / name).write_bytes(content)


def test_a_graph_of_which_some_lies_in_a_file_is_refused(held: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime would read it from the folder that serving runs in, where settings and keys may lie."""
    model = onnx.load_from_string(held.graph)
    outside = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[4], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="master.key")
    branch = helper.make_graph([], "branch", [], [], [outside])
    inner = helper.make_node("If", ["x"], ["y"], then_branch=branch)
    for add in (lambda: model.graph.initializer.append(outside), lambda: model.graph.node.append(inner)):
        model.CopyFrom(onnx.load_from_string(held.graph))
        add()
        path = write_bundle(tmp_path, replace(held, graph=model.SerializeToString()))
        with pytest.raises(BundleError, match="'secret' lies in a file"):
            read_bundle(path)
        shutil.rmtree(path)


@pytest.mark.parametrize("name", ["metadata.json", "graph.onnx", "items.json"])
def test_a_file_of_a_bundle_without_end_is_not_read_to_it(held: Bundle, tmp_path: Path, name: str) -> None:
    small = held.config.model_copy(update={"max_items": 1_000})
    path, block, taken = write_bundle(tmp_path, replace(held, config=small)), bytes(1 << 20), 0

    def chunks(file: str) -> Iterator[bytes]:
        nonlocal taken
        if file != name:
            yield (path / file).read_bytes()
            return
        while taken < 1 << 30:
            taken += len(block)
            yield block

    with pytest.raises(BundleError, match="more than there can be"):
        unpack_bundle("here", chunks)
    assert taken < 1 << 27


SEGMENT = Segment(
    "u",
    [Entry("a", "view", 1, None)],
    [Entry("b", "view", 2, 1.0), Entry("c", "view", 3, None)],
    [EventPosition(1, 0), EventPosition(2, 0)],
)
ITEM = CatalogueEntry("b", {"title": "A b", "categories": ["x"], "attributes": {"year": 1999}, "text": "about b"})


@quick
@given(st.data())
def test_an_examples_record_with_any_content_is_learned_or_refused(learner: Learner, data: st.DataObject) -> None:
    good = orjson.loads(data.draw(st.sampled_from([pack_segments(0, [SEGMENT], 30), pack_items([ITEM])])))
    value = dumped(changed_somewhere(data.draw, good))
    with contextlib.suppress(InvalidMessage):
        for entry in list(unpack(value)):
            if isinstance(entry, Example):
                learner.learn([entry])
            else:
                learner.observe_item(entry)
                learner.learn([Example("u", [], Entry(entry.item_id, "view", 5, None), 0, EventPosition(5, 0))])


def test_a_record_of_many_examples_takes_no_more_memory_than_what_was_sent() -> None:
    many = 4000
    targets = [Entry(f"i{n % 50}", "view", n, None) for n in range(many)]
    value = pack_segments(0, [Segment("u", [], targets, [EventPosition(n, 0) for n in range(many)])])
    tracemalloc.start()
    try:
        found = list(unpack(value))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000, "copies of all histories take 64 MB"
    last = found[-1]
    assert isinstance(last, Example)
    assert last.history == targets[:-1]
    assert (last.history[-1], last.history[5:8], next(reversed(last.history))) == (
        targets[-2],
        targets[5:8],
        targets[-2],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"partition": "0"},
        {"partition": True},
        {"partition": -1},
        {"partition": 2**31},
        {"limit": -5},
        {"limit": 10**9},
        {"segments": {"user": "u"}},
        {"segments": [{"user": "", "history": [], "targets": [["b", "view", 2, None]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b" * 257, "view", 2, None]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", -2, None]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 10**18, None]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 2, "1.5"]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 2, True]], "at": [[1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 2, None]], "at": [[-1, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 2, None]], "at": [[2**63, 0]]}]},
        {"segments": [{"user": "u", "history": [], "targets": [["b", "view", 2, None]], "at": []}]},
        {"items": [["b", {"title": 5}]]},
        {"items": [["b", {"categories": 7}]]},
        {"items": [["b", {"categories": [7]}]]},
        {"items": [["b", {"attributes": [1]}]]},
        {"items": [["", None]]},
        {"items": [[7, None]]},
        {"items": 7},
    ],
)
def test_examples_out_of_bounds_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage) as caught:
        list(unpack(orjson.dumps({**orjson.loads(pack_segments(0, [SEGMENT], 30)), **change})))
    assert caught.value.reason == "schema"
