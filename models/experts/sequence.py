"""The sequence expert: what an encoder of the newest events, trained by gradient with a replay buffer, says comes next.

The encoder is `models.sequence.encoder`, in torch. Here is what makes it an expert: the sequences of a block, the
buffer that it rehearses the past from, its logits as an opinion, and the same maths as ONNX nodes. Knows rows and
steps, not item ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from models.block import Block
from models.config import ModelConfig
from models.experts.expert import Dense, Expert, Similar
from models.inputs import Steps, pad_steps
from models.onnx_nodes import Nodes
from models.part import CAPACITY, Changes, Input, weight_of
from models.sequence.attention import TIME_RATES
from models.sequence.batches import Sequences, batch_of, sequences_of, some, with_passed_over
from models.sequence.encoder import SINCE_RATES, Encoder
from models.sequence.optimizer import Adam
from models.sequence.replay_buffer import ReplayBuffer

__all__ = ["ENCODED", "SequenceExpert"]

ENCODED = "encoded"
"""In the graph, (B, d): what the encoder makes of histories."""


class SequenceExpert(Expert):
    """An encoder and its replay buffer."""

    name = "slow"
    part = "slow"

    def __init__(self, config: ModelConfig, capacity: int, generator: torch.Generator, seed: int) -> None:
        self.config = config
        self.reason = "fits what you did lately" if config.slow else None
        self.encoder = Encoder(config, capacity, generator)
        self.replay = ReplayBuffer(config.replay_capacity, config.length + 1, seed)
        self._logits: NDArray[np.float32] = np.zeros((0, 0), np.float32)  # (n, N)
        self._places: dict[int, int] = {}  # example of the block -> its row of the logits
        self._listed: dict[int, NDArray[np.float32]] = {}  # list of the block -> logits of its items that have a row

    def known_users(self) -> set[str]:
        """Whose windows are rehearsed."""
        return {one for one in self.replay.users if one is not None}

    def forget_user(self, user_id: str) -> None:
        """No window of somebody is rehearsed any more."""
        self.replay.forget_user(user_id)

    def start(self) -> list[float]:
        """Little: it has learned nothing yet."""
        return [0.5]

    def open(self, row: int, used: int, similar: Similar) -> None:
        """Start from the mean vector of the items that are like it."""
        vectors = self.encoder.table[:used].cpu().numpy()
        self.encoder.start_row(row, similar(vectors))

    def learn(self, block: Block) -> None:
        """Score the block by the weights as they are; then one gradient step on it and on replayed windows."""
        config = self.config
        self._places, self._listed = {}, self._of_lists(block) if config.slow and block.lists else {}
        if block.lists and len(block.lists) == len(block.examples):
            return  # nothing happened
        sequences, places = sequences_of(block.examples, block.type_index, config)
        new = batch_of(block.examples, sequences, places, config)
        replayed = self.replay.draw(config.replay_windows, config.replay_targets, block.type_index, config)
        if config.slow:
            lesson = with_passed_over(new, block.examples, places, config)
            self._logits = self.encoder.learn(new, lesson, replayed, block.used, block.chances)
            self._places = {place[0]: i for i, place in enumerate(places)}
        for user_id, steps in sequences:
            self.replay.add(user_id, steps)

    def ask(self, block: Block) -> None:
        """Score the block's queries and learn nothing."""
        self._places = {}
        if not self.config.slow:
            return
        asked = [block.examples[i] for i in block.places]
        arrays: dict[str, Any] = pad_steps([one.steps for one in asked], max(block.history.shape[1], 1))
        lengths, starts = arrays.pop("lengths").astype(np.int64), arrays.pop("starts")
        index = np.arange(len(asked))
        batch = Sequences(
            **arrays,
            row=index,
            step=np.maximum(lengths - 1, 0),
            target=index,
            weight=np.ones(len(index), np.float32),
            since=block.since,
            starts=some(starts),
            fresh=some(block.fresh),
        )
        self._logits = self.encoder.score(batch, block.used)
        empty = lengths == 0
        self._logits[empty] = self.encoder.score_unread(block.since[empty], block.fresh[empty], block.used)
        self._places = {place: i for i, place in enumerate(block.places)}

    def _of_lists(self, block: Block) -> dict[int, NDArray[np.float32]]:
        """Logits of the items of lists, by the weights that score. Lists of one history share a pass of the encoder."""
        read: dict[tuple[object, ...], int] = {}
        sequences: list[Steps] = []
        row, step, since, fresh, counts, rows = [], [], [], [], [], []
        for i in block.lists:
            one = block.examples[i]
            assert one.listed is not None
            steps = Steps(*one.steps[:4], starts=one.steps.starts)
            at = read.setdefault(tuple(tuple(part) for part in steps), len(sequences))
            if at == len(sequences):
                sequences.append(steps)
            row.append(at)
            step.append(max(len(steps.rows) - 1, 0))
            since.append(one.since)
            fresh.append(one.fresh)
            known = [item for item in one.listed.rows if item >= 0]
            rows += known
            counts.append(len(known))
        arrays: dict[str, Any] = pad_steps(sequences, max(*(len(one.rows) for one in sequences), 1))
        empty, starts = arrays.pop("lengths")[row] == 0, arrays.pop("starts")
        at_step, zero = np.array(step, np.int64), np.zeros(len(row), np.int64)
        batch = Sequences(
            **arrays,
            row=np.array(row, np.int64),
            step=at_step,
            target=zero,
            weight=np.ones(len(row), np.float32),
            since=np.array(since, np.float32),
            starts=some(starts),
            fresh=some(np.array(fresh, np.float32)),
        )
        place = np.repeat(np.arange(len(row)), counts)
        said = self.encoder.score_few(batch, empty, place, np.array(rows, np.int64))
        return dict(zip(block.lists, np.split(said, np.cumsum(counts)[:-1]), strict=True))

    def of_rows(self, block: Block, i: int, rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Logits of the items that a list shows."""
        said = self._listed.get(i)
        return [] if said is None else [said]

    def opinions(self, block: Block, i: int) -> list[Dense]:
        """The logits."""
        place = self._places.get(i)
        return [] if place is None else [Dense(self._logits[place])]

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        self.encoder.grow(capacity)

    def clear(self, rows: list[int]) -> None:
        """Zero their vectors, and empty the windows that hold them."""
        self.encoder.clear(rows)
        self.replay.forget_items(rows)

    def move(self, device: str) -> None:
        """Take the encoder to a device."""
        self.encoder.move(device)

    def inputs(self) -> dict[str, Input]:
        """Item vectors and biases by row, and the dense weights."""
        return {
            "item_vectors": Input(np.float32, (CAPACITY, self.config.width)),
            "item_bias": Input(np.float32, (CAPACITY,)),
            **{name: Input(np.float32, shape) for name, shape in self.encoder.shapes.items()},
        }

    def weights(self) -> dict[str, NDArray[Any]]:
        """The weights that score: running means, or the newest where that pays."""
        table, bias, dense = self.encoder.scoring()
        named = {"item_vectors": table, "item_bias": bias, **self.encoder.weights(dense)}
        return {name: tensor.cpu().numpy() for name, tensor in named.items()}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights."""
        means = self.encoder.averages
        means.table, means.bias = torch.from_numpy(weights["item_vectors"]), torch.from_numpy(weights["item_bias"])
        shapes = self.encoder.shapes.items()
        means.dense = torch.cat([torch.from_numpy(weight_of(weights, name, shape)).ravel() for name, shape in shapes])

    def take_changes(self) -> Changes:
        """Rows that took a step, and the dense weights after one."""
        rows = np.flatnonzero(self.encoder.touched)
        dense = list(self.encoder.shapes) if self.encoder.stepped else []
        self.encoder.touched[:] = self.encoder.stepped = False
        return Changes(dense=dense, rows={"item_vectors": rows, "item_bias": rows})

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, their running means, and the replay buffer."""
        encoder = self.encoder
        tensors = {"table": encoder.table, "bias": encoder.bias, "dense": encoder.dense}
        tensors |= {
            f"average.{name}": getattr(encoder.averages, name) for name in ("table", "bias", "dense", "taken", "last")
        }
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        arrays["average.gain"] = encoder.averages.gain
        return arrays | {f"replay.{name}": array for name, array in self.replay.arrays().items()}

    def adams(self) -> dict[str, Adam]:
        """Of item vectors, item biases and dense weights."""
        return {"table": self.encoder.table_adam, "bias": self.encoder.bias_adam, "dense": self.encoder.dense_adam}

    def values(self) -> dict[str, Any]:
        """The buffer's counters and its generator."""
        return {"replay": self.replay.owners()}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` returned."""
        self.replay.restore(values["replay"])

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        """The logits, times trust.

        Items are the rows of the product, so that it is the same for a batch of one, and for many the faster one.
        """
        if not self.config.slow:
            return add("Mul", nothing, trust)
        with add.padded():
            hidden = _hidden(add, self.config)
        hidden = add.cut(hidden, out=ENCODED)
        logits = add("MatMul", "item_vectors", add("Transpose", hidden, perm=[1, 0]))  # (N, B)
        logits = add("Add", add("Transpose", logits, perm=[1, 0]), "item_bias")
        return add("Mul", logits, trust)


def _hidden(add: Nodes, config: ModelConfig) -> str:
    """What the encoder says of histories, (B, d), in the graph."""
    last = add.ints(-1)
    signal = add("Concat", add("Unsqueeze", "values", last), add("Unsqueeze", "gaps", last), axis=2)  # (B, L, 2)
    signal = add("MatMul", signal, add("Transpose", "signal_weight", perm=[1, 0]))
    x = add("Add", add("Gather", "item_vectors", "history", axis=0), add("Gather", "type_vectors", "types", axis=0))
    x = add("Add", add("Add", x, signal), "signal_bias")  # (B, L, d)
    x = add("Add", x, add("Mul", add("Unsqueeze", "starts", last), "session_start"))
    hidden = _attention(add, config, x) if config.encoder == "attention" else _recurrent(add, config, x)  # (B, d)
    times = [add.rounded("Exp", add("Mul", "since", add.float(-rate))) for rate in SINCE_RATES]
    times = [add("Unsqueeze", time, add.ints(1)) for time in ("since", *times)]
    times_weight = add("Transpose", "since_weight", perm=[1, 0])
    said = add("MatMul", add("Concat", *times, axis=1), times_weight)  # (B, 2d)
    said = add("Add", said, add("Mul", add("Unsqueeze", "fresh", add.ints(1)), "session_fresh"))
    add("Split", said, out="since_says", outputs=2, axis=1, num_outputs=2)
    hidden = add("Add", add("Add", hidden, add("Mul", hidden, "since_says_0")), "since_says_1")
    return add("Gemm", hidden, "output_weight", "output_bias", transB=1)


def _recurrent(add: Nodes, config: ModelConfig, x: str) -> str:
    """State after the last step, (B, d), of step vectors (B, L, d); zero for an empty history."""
    d = config.width
    x = add("Transpose", x, perm=[1, 0, 2])  # (L, B, d)
    weight = add("Unsqueeze", _update_first(add, "gru_input_weight"), add.ints(0))  # (1, 3d, d)
    state = add("Unsqueeze", _update_first(add, "gru_state_weight"), add.ints(0))
    biases = [_update_first(add, "gru_input_bias"), _update_first(add, "gru_state_bias")]
    bias = add("Unsqueeze", add("Concat", *biases, axis=0), add.ints(0))  # (1, 6d)
    last = add("GRU", x, weight, state, bias, "lengths", out="gru", outputs=2, hidden_size=d, linear_before_reset=1)
    return add("Squeeze", f"{last}_1", add.ints(0))


def _attention(add: Nodes, config: ModelConfig, x: str) -> str:
    """State after the last step, (B, d), of step vectors (B, L, d); zero for an empty history. See `attention`."""
    d, length, heads = config.width, config.length, config.attention_heads
    last = add.ints(-1)
    seconds = add(
        "Sub", add("Exp", add("Mul", add("Cast", "gaps", to=TensorProto.DOUBLE), add.double(10.0))), add.double(1.0)
    )
    at = add("CumSum", seconds, add.constant(1, np.int64))  # (B, L)
    apart = add("Sub", add("Unsqueeze", at, add.ints(2)), add("Unsqueeze", at, add.ints(1)))  # (B, L, L)
    apart = add("Log", add("Add", add("Max", apart, add.double(0.0)), add.double(1.0)))
    apart = add("Mul", add("Cast", apart, to=TensorProto.FLOAT), add.float(0.1))
    times = [apart, *(add("Exp", add("Mul", apart, add.float(-rate))) for rate in TIME_RATES)]
    read = add("Concat", *(add("Unsqueeze", time, last) for time in times), axis=3)  # (B, L, L, 3)
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    causal = add.constant((distance >= 0) / length, np.float32)
    places = add.constant(np.maximum(distance, 0), np.int64)
    ones = add.constant(np.ones(d), np.float32)
    for i in range(config.attention_blocks):
        y = add("LayerNormalization", x, ones, axis=-1)
        mixed = add("MatMul", y, add("Transpose", f"block{i}_input_weight", perm=[1, 0]))
        mixed = _silu(add, add("Add", mixed, f"block{i}_input_bias"))
        parts = add("Split", mixed, out=f"block{i}_mixed", outputs=4, axis=2, num_outputs=4)
        shape = add.ints(0, 0, heads, d // heads)
        value, query = (
            add("Transpose", add("Reshape", f"{parts}_{k}", shape), perm=[0, 2, 1, 3]) for k in (1, 2)
        )  # (B, H, L, d / H)
        key = add("Transpose", add("Reshape", f"{parts}_3", shape), perm=[0, 2, 3, 1])  # (B, H, d / H, L)
        time = add("MatMul", read, add("Transpose", f"block{i}_time_bias", perm=[1, 0]))  # (B, L, L, H)
        bias = add(
            "Add", add("Gather", f"block{i}_place_bias", places, axis=1), add("Transpose", time, perm=[0, 3, 1, 2])
        )
        attention = add("Mul", _silu(add, add("Add", add("MatMul", query, key), bias)), causal)
        seen = add("Transpose", add("MatMul", attention, value), perm=[0, 2, 1, 3])
        seen = add("LayerNormalization", add("Reshape", seen, add.ints(0, 0, d)), ones, axis=-1)
        out = add("MatMul", add("Mul", seen, f"{parts}_0"), add("Transpose", f"block{i}_output_weight", perm=[1, 0]))
        x = add("Add", x, add("Add", out, f"block{i}_output_bias"))
    x = add("LayerNormalization", x, ones, axis=-1)
    lengths = add("Cast", "lengths", to=TensorProto.INT64)
    newest = add("Unsqueeze", add("Max", add("Sub", lengths, add.ints(1)), add.ints(0)), add.ints(1))  # (B, 1)
    state = add("GatherND", x, newest, batch_dims=1)  # (B, d)
    some = add("Cast", add("Greater", lengths, add.ints(0)), to=TensorProto.FLOAT)
    return add("Mul", state, add("Unsqueeze", some, add.ints(1)))


def _silu(add: Nodes, x: str) -> str:
    return add("Mul", x, add("Sigmoid", x))


def _update_first(add: Nodes, name: str) -> str:
    """torch keeps gates as reset, update, new; ONNX wants update, reset, new."""
    parts = f"{name}_gate"
    add("Split", name, out=parts, outputs=3, axis=0, num_outputs=3)
    return add("Concat", f"{parts}_1", f"{parts}_0", f"{parts}_2", axis=0)
