"""AdamW on tensors that grow: whole for dense weights, by rows for tables.

Before: `encoder` and `gate` compute gradients. After: nothing; weights change in place. Knows no model.

Loshchilov & Hutter (2019). torch's own optimizers tie their state to Parameter objects of fixed size; a table that
grows and whose rows are reset and reused needs the moments as plain tensors beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Adam"]


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
        if isinstance(rows, Tensor):
            weights, first, second = self.weights[rows], self.first[rows], self.second[rows]
        else:
            part = slice(None) if rows is None else slice(rows)
            weights, first, second = self.weights[part], self.first[part], self.second[part]
        one, two = self.BETAS
        first.lerp_(gradient, 1 - one)
        second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
        correction = (1 - two**self.steps) ** 0.5
        if self.weight_decay:
            weights.mul_(1 - self.learning_rate * self.weight_decay)
        denominator = second.sqrt().add_(self.EPSILON * correction)
        weights.addcdiv_(first, denominator, value=-self.learning_rate * correction / (1 - one**self.steps))
        if isinstance(rows, Tensor):
            self.weights[rows], self.first[rows], self.second[rows] = weights, first, second

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
        self.first[rows] = 0
        self.second[rows] = 0
