"""A causal encoder of the newest events, trained by gradient.

Before: `batches` and `replay_buffer` make the sequences. After: `experts.sequence` has its logits as an opinion, and
the same maths for the graph. Knows rows, not item ids or users: a user is its history, so a new one is served at its
first event.

A gated recurrent unit (Cho et al. 2014) over item vector + event type + value + time gap, as GRU4Rec (Hidasi et al.
2016), with one item table for input and output. The examples of one block that share a user's history are ONE
sequence with several targets, so its history is encoded once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.config import ModelConfig
from models.part import LATER
from models.sequence.attention import attention_shapes, attention_states
from models.sequence.averages import Averages
from models.sequence.batches import Sequences, balanced, few_of, join_sequences, some
from models.sequence.losses import (
    Drawn,
    fused_sampled_softmax,
    fused_softmax,
    half_is_fast,
    log_expected,
    sample_negatives,
)
from models.sequence.optimizer import Adam
from models.sequence.recurrent import recurrent_states

__all__ = ["Encoder"]

ITEM_INIT_STD = 0.05

COMPARED = 4
"""One step in so many it is measured whether the means of the weights score better than the newest ones."""

JUDGES = 16
"""About so many of a block's places are asked for it: the others' logits would be half of a block at 100,000 items."""

SINCE_RATES = (5.0, 50.0)
"""Besides the time t since the newest event the output reads exp(-rate * t): of s seconds, (1 + s) ** (-rate / 10)."""


def dense_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the encoder's weights other than the item table, in the order in which they are kept."""
    d = config.width
    recurrent = {
        "gru_input_weight": (3 * d, d),  # gates in torch's order: reset, update, new
        "gru_state_weight": (3 * d, d),
        "gru_input_bias": (3 * d,),
        "gru_state_bias": (3 * d,),
    }
    return {
        "type_vectors": (config.max_types + 1, d),
        "signal_weight": (d, 2),  # value, gap
        "signal_bias": (d,),
        **(recurrent if config.encoder == "gru" else attention_shapes(config)),
        "output_weight": (d, d),
        "output_bias": (d,),
        "since_weight": (2 * d, len(SINCE_RATES) + 1),
        "session_start": (d,),
        "session_fresh": (2 * d,),
    }


warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")  # 0.1 MB a step
warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")  # the first time


class Encoder:
    """Weights, moments and the gradient step. All random choices come from the generator it is given."""

    def __init__(self, config: ModelConfig, capacity: int, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator
        self.device = torch.device("cpu")
        self.shapes = dense_shapes(config)
        self.sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        self.first_release = sum(self.sizes[: -len(LATER & self.shapes.keys())])  # more zeros would round a norm anew
        d = config.width
        parts = []
        for name, shape in self.shapes.items():
            if name in LATER:
                parts.append(torch.zeros(shape))
                continue
            bound = 0.5 if name.startswith("signal") else d**-0.5
            if name.endswith(("type_vectors", "since_weight", "place_bias", "time_bias")):
                bound = 0.0
            parts.append((torch.rand(int(np.prod(shape)), generator=generator) * 2 - 1) * bound)
        self.table = torch.zeros(capacity, d)
        self.bias = torch.zeros(capacity)
        self.dense = torch.cat(parts)  # one flat vector: one optimizer update instead of nine
        self.touched = np.zeros(capacity, bool)  # rows changed since the last publication
        self.stepped = True  # dense weights, too
        rate = config.learning_rate
        self.table_adam = Adam(self.table, config.table_learning_rate)
        self.bias_adam = Adam(self.bias, config.table_learning_rate)
        self.dense_adam = Adam(self.dense, rate, config.weight_decay)
        self.averages = Averages(self.table, self.bias, self.dense, config.average)  # what scores
        self._room: Tensor | None = None  # of `score`

    def move(self, device: str) -> None:
        """Go to another device. Random choices are still made on the CPU, so that they are the same everywhere."""
        self.device = torch.device(device)
        self.table, self.bias, self.dense = (part.to(self.device) for part in (self.table, self.bias, self.dense))
        self.table_adam.move(self.table)
        self.bias_adam.move(self.bias)
        self.dense_adam.move(self.dense)
        self.averages.move(self.device)

    def weights(self, flat: Tensor | None = None) -> dict[str, Tensor]:
        """The dense weights by name, as views of the flat vector."""
        pieces = torch.split(self.dense if flat is None else flat, self.sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        more = capacity - len(self.table)
        self.table = torch.cat([self.table, self.table.new_zeros(more, self.config.width)])
        self.bias = torch.cat([self.bias, self.bias.new_zeros(more)])
        self.table_adam.grow(self.table)
        self.bias_adam.grow(self.bias)
        self.averages.grow(self.table, self.bias)
        self.touched = np.concatenate([self.touched, np.zeros(more, bool)])

    def start_row(self, row: int, content: NDArray[np.float32] | None) -> None:
        """Begin a row: from `content`, the mean vector of similar items, with a little noise; without it from noise."""
        noise = torch.randn(self.config.width, generator=self.generator) * ITEM_INIT_STD
        start = noise if content is None else torch.from_numpy(content) + 0.2 * noise
        self.table[row] = start.to(self.device)
        self.bias[row] = 0.0
        self._restart([row])

    def clear(self, rows: list[int]) -> None:
        """Zero the rows of items that were let go."""
        self.table[rows] = 0.0
        self.bias[rows] = 0.0
        self._restart(rows)

    def settle(self) -> None:
        """Score by the weights as they are, after steps that became ever smaller; means start from there."""
        self.averages.settle(self.table, self.bias, self.dense, self.dense_adam.steps)
        self.touched[:] = self.stepped = True

    def _restart(self, rows: list[int]) -> None:
        self.table_adam.reset(rows)
        self.bias_adam.reset(rows)
        self.averages.restart(self.table, self.bias, rows, self.dense_adam.steps)
        self.touched[rows] = True

    def hidden(
        self, table: Tensor, weights: dict[str, Tensor], batch: Sequences, dropped_from: int | None = None
    ) -> Tensor:
        """States after each step, projected to item space, at the predicting places: (n, d).

        `batch.history` indexes `table`, which may be a part of the whole. Sequences from `dropped_from` on get dropout.
        """
        signal = torch.from_numpy(np.stack([batch.values, batch.gaps], -1)).to(self.device)  # (B, T, 2)
        x = functional.embedding(torch.from_numpy(batch.history).to(self.device), table)  # (B, T, d)
        x = x + functional.embedding(torch.from_numpy(batch.types).to(self.device), weights["type_vectors"])
        x = x + functional.linear(signal, weights["signal_weight"], weights["signal_bias"])
        if batch.starts is not None:
            x = x + torch.from_numpy(batch.starts).to(self.device)[..., None] * weights["session_start"]
        dropout = self.config.dropout
        if dropout and dropped_from is not None and dropped_from < len(x):
            keep = torch.ones(x.shape)
            keep[dropped_from:] = (torch.rand(keep[dropped_from:].shape, generator=self.generator) >= dropout) / (
                1 - dropout
            )
            x = x * keep.to(self.device)
        if self.config.encoder == "attention":
            states = attention_states(x, signal[..., 1], weights, self.config)
        else:
            names = ("input_weight", "state_weight", "input_bias", "state_bias")
            flat = tuple(weights[f"gru_{name}"] for name in names)
            if self.device.type == "cpu":
                states = recurrent_states(x, flat, half_is_fast(self.device))
            else:
                start = x.new_zeros(1, len(x), self.config.width)
                training = torch.is_grad_enabled()  # cuDNN keeps what the backward pass needs only then
                states, _ = torch._VF.gru(x, start, flat, True, 1, 0.0, training, False, True)
        at = states[torch.from_numpy(batch.row).to(self.device), torch.from_numpy(batch.step).to(self.device)]  # (n, d)
        fresh = None if batch.fresh is None else torch.from_numpy(batch.fresh).to(self.device)
        out = self.output(at, torch.from_numpy(batch.since).to(self.device), weights, fresh)
        if self.config.state_dropout and dropped_from is not None:
            keep = (torch.rand(out.shape, generator=self.generator) >= self.config.state_dropout).to(out.dtype)
            keep[torch.from_numpy(batch.row < dropped_from)] = 1 - self.config.state_dropout
            out = out * (keep / (1 - self.config.state_dropout)).to(self.device)
        return out

    def output(self, states: Tensor, since: Tensor, weights: dict[str, Tensor], fresh: Tensor | None = None) -> Tensor:
        """States (n, d) in item space, given the time from their newest event to the question, (n,), and whether a
        session starts with it, (n,): (n, d).

        What follows at once is not what follows a day later, so the time scales and shifts the state, after
        the latent cross of Beutel et al. (2018). So does the start of a session.
        """
        times = torch.stack([since, *(torch.exp(-rate * since) for rate in SINCE_RATES)], -1)  # (n, 3)
        said = functional.linear(times, weights["since_weight"])
        if fresh is not None:
            said = said + fresh[:, None] * weights["session_fresh"]
        scale, shift = said.chunk(2, -1)
        return functional.linear(states * (1 + scale) + shift, weights["output_weight"], weights["output_bias"])

    @torch.no_grad()
    def score(self, batch: Sequences, used: int) -> NDArray[np.float32]:
        """Logits of rows [0, used) at the predicting places, by the weights that score: (n, used) float32.

        The next call writes where this one did: giving back and taking tens of megabytes at each block costs a fifth of
        the product.
        """
        table, bias, dense = self.scoring()
        hidden = self.hidden(table, self.weights(dense), batch)
        room = self._room
        if hidden.device.type != "cpu":
            room = None
        elif room is None or room.numel() < len(hidden) * used:
            room = self._room = hidden.new_empty(len(hidden) * used)
        out = None if room is None else room[: len(hidden) * used].view(len(hidden), used)
        logits: NDArray[np.float32] = torch.addmm(bias[:used], hidden, table[:used].t(), out=out).cpu().numpy()
        return logits

    @torch.no_grad()
    def score_unread(self, since: NDArray[np.float32], fresh: NDArray[np.float32], used: int) -> NDArray[np.float32]:
        """Logits of rows [0, used) for histories of which nothing was read, (n, used), `since` (n,) after their end;
        `fresh` (n,) where a session starts.
        """
        table, bias, dense = self.scoring()
        out = self._unread(since, some(fresh), self.weights(dense))
        logits: NDArray[np.float32] = functional.linear(out, table[:used], bias[:used]).cpu().numpy()
        return logits

    @torch.no_grad()
    def score_few(
        self, batch: Sequences, empty: NDArray[np.bool_], place: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Logits of single rows, (m,), each at one of the predicting places, (m,), by the weights that score.

        `empty` (n,) says of which places nothing was read.
        """
        table, bias, dense = self.scoring()
        weights = self.weights(dense)
        hidden = self.hidden(table, weights, batch)
        if empty.any():
            fresh = None if batch.fresh is None else batch.fresh[empty]
            hidden[torch.from_numpy(empty).to(self.device)] = self._unread(batch.since[empty], fresh, weights)
        at = torch.from_numpy(rows).to(self.device)
        said = (hidden[torch.from_numpy(place).to(self.device)] * table[at]).sum(-1) + bias[at]
        logits: NDArray[np.float32] = said.cpu().numpy()
        return logits

    def _unread(
        self, since: NDArray[np.float32], fresh: NDArray[np.float32] | None, weights: dict[str, Tensor]
    ) -> Tensor:
        """`output` of a state that has seen no step."""
        nothing = torch.zeros(len(since), self.config.width, device=self.device)
        starts = None if fresh is None else torch.from_numpy(fresh).to(self.device)
        return self.output(nothing, torch.from_numpy(since).to(self.device), weights, starts)

    def scoring(self) -> tuple[Tensor, Tensor, Tensor]:
        """Table, bias and flat dense weights that score and are published: the means, or the newest where that pays."""
        if self.averages.pays:
            return self.averages.table, self.averages.bias, self.averages.dense
        return self.table, self.bias, self.dense

    def _logits(self, batch: Sequences, used: int, table: Tensor, bias: Tensor, dense: Tensor) -> Tensor:
        return functional.linear(self.hidden(table, self.weights(dense), batch), table[:used], bias[:used])

    @torch.no_grad()
    def _test(self, new: Sequences, used: int) -> NDArray[np.float32]:
        """`score` of the new places; now and then the other weights are asked too, which of the two are the better."""
        if not len(new.target):
            return np.zeros((0, used), np.float32)
        scored, mean = self.score(new, used), self.averages
        if mean.keep and not self.dense_adam.steps % COMPARED:
            newest, means = (self.table, self.bias, self.dense), (mean.table, mean.bias, mean.dense)
            judges = slice(0, None, -(-len(new.target) // JUDGES))
            few, target = few_of(new, judges), torch.from_numpy(new.target[judges]).to(self.device)
            others = self._logits(few, used, *(newest if mean.pays else means))
            chosen = torch.from_numpy(scored[judges]).to(self.device)
            losses = [float(functional.cross_entropy(one, target)) for one in (others, chosen)]
            if mean.judge(losses[0] - losses[1] if mean.pays else losses[1] - losses[0]):
                self.touched[:] = self.stepped = True  # other weights score from here on
        return scored

    def learn(
        self, new: Sequences, lesson: Sequences, replay: Sequences | None, used: int, chances: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Score the new places, then take one gradient step on their lesson and the replayed places.

        Returns what `score` says of the new places before the step, (n, used) float32. `lesson` is `new`, perhaps with
        more places. `chances` (used,) are those of a row to be drawn as a negative in catalogues above
        `full_softmax_items`; free rows have none.
        """
        both = lesson if replay is None else join_sequences(lesson, replay)
        if not len(both.target):
            return np.zeros((0, used), np.float32)
        logits = self._test(new, used)
        rows: Tensor | int = used
        if used <= self.config.full_softmax_items:
            self._learn_full(both, len(new.history), len(lesson.target), chances[:used])
        else:
            drawn = torch.from_numpy(chances[:used]).float()
            _, rows = self._learn_sampled(both, len(new.history), len(lesson.target), drawn)
        self.averages.follow(self.table, self.bias, self.dense, rows, self.dense_adam.steps)
        return logits

    @contextmanager
    def rates(self, dense: float, table: float) -> Iterator[None]:
        """Other learning rates for a while."""
        adams = (self.dense_adam, self.table_adam, self.bias_adam)
        before = [adam.learning_rate for adam in adams]
        for adam, rate in zip(adams, (dense, table, table), strict=True):
            adam.learning_rate = rate
        try:
            yield
        finally:
            for adam, rate in zip(adams, before, strict=True):
                adam.learning_rate = rate

    def rehearse(self, batch: Sequences, chances: NDArray[Any]) -> float:
        """One gradient step on a large batch of windows, all with dropout; the mean loss before it.

        Scores stay as they are until `settle`.
        `chances` (used,) are those of a row to be drawn as a negative: rows without any are nobody's.
        """
        if len(chances) > self.config.full_softmax_items:
            return self._learn_sampled(batch, 0, 0, torch.from_numpy(chances).float())[0]
        return self._learn_full(batch, 0, 0, chances)

    def _learn_full(self, batch: Sequences, rows_new: int, n_new: int, chances: NDArray[Any]) -> float:
        """One step on all of the softmax; returns the loss before it. See `balanced`."""
        used = len(chances)
        table = self.table[:used].detach().requires_grad_()
        dense = self.dense.detach().requires_grad_()
        hidden = self.hidden(table, self.weights(dense), batch, rows_new)
        free = torch.from_numpy(chances == 0).to(self.device)  # a free row is nobody's negative
        loss, to_hidden, to_table, to_bias = fused_softmax(
            hidden.detach(),
            table.detach(),
            self.bias[:used].masked_fill(free, -1e9),
            torch.from_numpy(batch.target).to(self.device),
            torch.from_numpy(balanced(batch.weight, n_new)).to(self.device),
            half_is_fast(self.device),
        )
        below, to_dense = self._below(hidden, to_hidden, table, dense)
        self._step((to_table + below, to_bias, to_dense), used)
        return loss

    def _learn_sampled(self, batch: Sequences, rows_new: int, n_new: int, chances: Tensor) -> tuple[float, Tensor]:
        """Returns the loss before the step, and the rows that took one."""
        negatives = sample_negatives(chances, self.config.negatives, self.generator)
        history, target = torch.from_numpy(batch.history), torch.from_numpy(batch.target)
        rows = torch.cat([negatives, history.ravel(), target]).unique()  # type: ignore[no-untyped-call]
        local = torch.zeros(len(chances), dtype=torch.int64)
        local[rows] = torch.arange(len(rows))
        expected = log_expected(chances[rows], self.config.negatives).to(self.device)
        rows = rows.to(self.device)
        table = self.table[rows].requires_grad_()  # (r, d): only these get a gradient
        dense = self.dense.detach().requires_grad_()
        hidden = self.hidden(table, self.weights(dense), batch._replace(history=local[history].numpy()), rows_new)
        loss, to_hidden, to_table, to_bias = fused_sampled_softmax(
            hidden.detach(),
            table.detach(),
            self.bias[rows],
            local[target].to(self.device),
            torch.from_numpy(balanced(batch.weight, n_new)).to(self.device),
            half_is_fast(self.device),
            Drawn(local[negatives].to(self.device), expected),
        )
        below, to_dense = self._below(hidden, to_hidden, table, dense)
        self._step((to_table + below, to_bias, to_dense), rows)
        return loss, rows

    def _below(self, hidden: Tensor, to_hidden: Tensor, table: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients at table and dense weights of what has this one at the hidden states."""
        surrogate = (hidden * to_hidden).sum()  # given the gradient as such, torch would load sympy for it
        to_table, to_dense = torch.autograd.grad(surrogate, [table, dense])
        return to_table, to_dense

    def _step(self, gradients: tuple[Tensor, ...], rows: Tensor | int) -> None:
        table, bias, dense = gradients
        norm = dense[: self.first_release].norm()
        dense = dense * (self.config.clip_norm / norm).clamp(max=1.0)
        self.table_adam.step(table, rows)
        self.bias_adam.step(bias, rows)
        self.dense_adam.step(dense)
        self.stepped = True
        self.touched[rows.cpu().numpy() if isinstance(rows, Tensor) else slice(rows)] = True
