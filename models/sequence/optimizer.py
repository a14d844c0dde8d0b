"""AdamW on tensors that grow: whole for dense weights, by rows for tables.

Before: `encoder` and `gate` compute gradients. After: nothing; weights change in place. Knows no model.

Loshchilov & Hutter (2019). torch's own optimizers tie their state to Parameter objects of fixed size; a table that
grows and whose rows are reset and reused needs the moments as plain tensors beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.compiled import compiled_lanes

__all__ = ["Adam"]

Array = NDArray[np.float32]


class Sizes(NamedTuple):
    """Of one step: the gradient's shares in the moments, the weights' that decays, how far it goes, the least root."""

    first: float
    second: float
    decay: float
    step: float
    least: float

    def single(self) -> Array:
        """As compiled code takes them: (5,)."""
        return np.array(self, np.float32)


class Adam:
    """First and second moments of one tensor, updated whole or for chosen rows (then lazily: others keep theirs)."""

    BETAS = (0.9, 0.98)
    EPSILON = 1e-8

    def __init__(self, weights: Tensor, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.weights = weights
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self.steps = 0

    def step(self, gradient: Tensor, rows: Tensor | int | None = None) -> None:
        """One update. `rows`: None for the whole tensor, n for its first n rows, or (r,) int64 rows that differ."""
        self.steps += 1
        one, two = self.BETAS
        correction = (1 - two**self.steps) ** 0.5
        sizes = Sizes(
            first=1 - one,
            second=1 - two,
            decay=self.learning_rate * self.weight_decay,
            step=self.learning_rate * correction / (1 - one**self.steps),
            least=self.EPSILON * correction,
        )
        held = self.weights, self.first, self.second
        if self.weights.device.type != "cpu":
            _step(gradient, held, rows, sizes)
        elif isinstance(rows, Tensor):
            width = gradient.shape[1] if gradient.ndim > 1 else 1
            loop = _step_rows if width > 1 else _step_places
            shape = (-1, width) if width > 1 else (-1,)
            weights, first, second = (tensor.numpy().reshape(shape) for tensor in held)
            loop(rows.numpy(), gradient.numpy().reshape(shape), weights, first, second, sizes.single())
        else:
            weights, first, second = (tensor[:rows].numpy().reshape(-1) for tensor in held)
            _step_all(gradient.numpy().reshape(-1), weights, first, second, sizes.single())

    def move(self, weights: Tensor) -> None:
        """Follow weights that went to another device."""
        self.weights = weights
        self.first, self.second = self.first.to(weights.device), self.second.to(weights.device)

    def grow(self, weights: Tensor) -> None:
        """Follow a table that was copied into a taller one."""
        more = len(weights) - len(self.weights)
        shape = (more, *self.weights.shape[1:])
        self.weights = weights
        self.first = torch.cat([self.first, self.first.new_zeros(shape)])
        self.second = torch.cat([self.second, self.second.new_zeros(shape)])

    def reset(self, rows: list[int]) -> None:
        """Forget the moments of rows whose weights start anew."""
        for moments in (self.first, self.second):
            if moments.device.type == "cpu":
                moments.numpy()[rows] = 0  # a tenth of what torch takes to look at a list
            else:
                moments[rows] = 0


def _step(gradient: Tensor, held: tuple[Tensor, Tensor, Tensor], rows: Tensor | int | None, sizes: Sizes) -> None:
    """The step by torch, where compiled code does not reach."""
    part = rows if isinstance(rows, Tensor) else slice(rows)
    weights, first, second = (tensor[part] for tensor in held)
    first.lerp_(gradient, sizes.first)
    second.mul_(1 - sizes.second).addcmul_(gradient, gradient, value=sizes.second)
    if sizes.decay:
        weights.mul_(1 - sizes.decay)
    weights.addcdiv_(first, second.sqrt().add_(sizes.least), value=-sizes.step)
    if isinstance(rows, Tensor):
        for tensor, found in zip(held, (weights, first, second), strict=True):
            tensor[rows] = found


@compiled_lanes
def _step_all(gradient: Array, weights: Array, first: Array, second: Array, sizes: Array) -> None:
    """One step of numbers (n,) that lie side by side."""
    share, square, keep, step, least = sizes[0], sizes[1], np.float32(1) - sizes[2], sizes[3], sizes[4]
    for j in range(len(gradient)):
        first[j] += (gradient[j] - first[j]) * share
        second[j] += (gradient[j] * gradient[j] - second[j]) * square
        weights[j] = weights[j] * keep - step * first[j] / (np.sqrt(second[j]) + least)


@compiled_lanes
def _step_rows(
    rows: NDArray[np.int64], gradient: Array, weights: Array, first: Array, second: Array, sizes: Array
) -> None:
    """One step of these rows (r,) of tables (N, d)."""
    for r in range(len(rows)):
        row = rows[r]
        _step_all(gradient[r], weights[row], first[row], second[row], sizes)


@compiled_lanes
def _step_places(
    rows: NDArray[np.int64], gradient: Array, weights: Array, first: Array, second: Array, sizes: Array
) -> None:
    """One step of single numbers of (N,)."""
    share, square, step, least = sizes[0], sizes[1], sizes[3], sizes[4]
    for r in range(len(rows)):
        row, one = rows[r], gradient[r]
        first[row] += (one - first[row]) * share
        second[row] += (one * one - second[row]) * square
        weights[row] = weights[row] * (np.float32(1) - sizes[2]) - step * first[row] / (np.sqrt(second[row]) + least)
