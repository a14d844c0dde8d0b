"""The gated recurrent unit on the CPU, forwards and backwards by hand: a product and one compiled loop a step.

Before: `encoder` has the vectors of steps. After: its states. torch's own unit runs a dozen small operations a step,
and some thirty backwards: it is what runs on other devices, and what a test holds this one to. As there, the reset gate
comes after the product with the state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.compiled import compiled, compiled_lanes, exp_lanes

__all__ = ["recurrent_states"]

Array = NDArray[np.float32]


def recurrent_states(x: Tensor, weights: tuple[Tensor, ...], half: bool) -> Tensor:
    """States after each step.

    Parameters
        x: step vectors (B, T, d).
        weights: at the input (3d, d), at the state (3d, d), and the biases (3d,) of both, gates in torch's order.
        half: take gradients of the weights and of `x` in bfloat16.

    Returns
        (B, T, d); before the first step a state is 0.
    """
    if torch.is_grad_enabled() and any(one.requires_grad for one in (x, *weights)):
        states: Tensor = _Unit.apply(x, *weights, half)  # type: ignore[no-untyped-call]
        return states
    return _forward(x, weights)[0][1:].transpose(0, 1)


def _forward(x: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (T + 1, B, d), step vectors (T * B, d), gates (T, B, 3d), and what they read of the state (T, B, 3d)."""
    by_input, by_state, input_bias, state_bias = weights
    batch, steps, d = x.shape
    vectors = x.transpose(0, 1).reshape(steps * batch, d)
    gates = torch.addmm(input_bias, vectors, by_input.t()).view(steps, batch, 3 * d)
    said, turned, bias = torch.empty_like(gates), by_state.t().contiguous(), state_bias.numpy()
    states = torch.empty(steps + 1, batch, d)
    states[0] = 0.0
    at = states.numpy()
    pieces = zip(states.unbind(), said.unbind(), gates.numpy(), said.numpy(), at, at[1:], strict=False)
    for state, product, gate, heard, before, after in pieces:
        torch.mm(state, turned, out=product)
        _step(gate, heard, bias, before, after)
    return states, vectors, gates, said


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        *weights, ctx.half = given
        ctx.found = _forward(x, tuple(weights))
        ctx.weights = weights[:2]
        states: Tensor = ctx.found[0]
        return states[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, vectors, gates, said = ctx.found
        by_input, by_state = ctx.weights
        steps, batch, wide = gates.shape
        upon = gradient.transpose(0, 1).contiguous()  # (T, B, d)
        at, gate, heard, above = states.numpy(), gates.numpy(), said.numpy(), upon.numpy()
        for step in reversed(range(steps)):
            _back(gate[step], heard[step], at[step], above[step])
            if step:
                torch.addmm(upon[step], said[step], by_state, out=upon[step])
                _add(above[step], above[step - 1])
        read = states[:-1].reshape(steps * batch, -1)
        at_input, at_state = gates.view(-1, wide), said.view(-1, wide)
        biases = at_input.sum(0), at_state.sum(0)
        if ctx.half:
            at_input, at_state, vectors, read, by_input = (
                one.bfloat16() for one in (at_input, at_state, vectors, read, by_input)
            )
        below = (at_input @ by_input).float().view(steps, batch, -1).transpose(0, 1)
        return below, (at_input.t() @ vectors).float(), (at_state.t() @ read).float(), *biases, None


ONE = np.float32(1)


@compiled_lanes
def _step(gates: Array, said: Array, bias: Array, before: Array, after: Array) -> None:
    """One step: `gates` (B, 3d), of the input, become the gates; the last third of `said` is what the third reads.

    Short loops over few arrays, each of which LLVM turns into instructions for many numbers; one for all it does not.
    """
    d = before.shape[1]
    for b in range(len(before)):
        both, heard, own, then = gates[b, : 2 * d], said[b], before[b], after[b]
        reset, update, new, turned = gates[b, :d], gates[b, d : 2 * d], gates[b, 2 * d :], said[b, 2 * d :]
        for j in range(len(both)):
            both[j] = ONE / (ONE + exp_lanes(-(both[j] + (heard[j] + bias[j]))))
        for j in range(d):
            turned[j] += bias[2 * d + j]
        for j in range(d):
            twice = new[j] + reset[j] * turned[j]
            new[j] = ONE - (ONE + ONE) / (exp_lanes(twice + twice) + ONE)
        for j in range(d):
            then[j] = new[j] + update[j] * (own[j] - new[j])


@compiled_lanes
def _back(gates: Array, said: Array, before: Array, upon: Array) -> None:
    """One step back: gates (B, 3d) become the gradients at what they were before they were bent, `said` those at the
    product with the state; of `upon` (B, d), the gradient at the state, what goes on to the state before is left.
    """
    d = before.shape[1]
    for b in range(len(before)):
        own, above = before[b], upon[b]
        reset, update, new = gates[b, :d], gates[b, d : 2 * d], gates[b, 2 * d :]
        at_reset, at_update, turned = said[b, :d], said[b, d : 2 * d], said[b, 2 * d :]
        for j in range(d):
            at_update[j] = above[j] * (own[j] - new[j]) * update[j] * (ONE - update[j])
        for j in range(d):
            new[j] = above[j] * (ONE - update[j]) * (ONE - new[j] * new[j])
        for j in range(d):
            above[j] *= update[j]
        for j in range(d):
            at_reset[j] = new[j] * turned[j] * reset[j] * (ONE - reset[j])
        for j in range(d):
            turned[j] = new[j] * reset[j]
        for j in range(d):
            reset[j] = at_reset[j]
        for j in range(d):
            update[j] = at_update[j]


@compiled
def _add(more: Array, to: Array) -> None:
    for b in range(len(to)):
        for j in range(to.shape[1]):
            to[b, j] += more[b, j]
