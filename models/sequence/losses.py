"""Softmax over a large catalogue: sampled, with a correction. Small catalogues take the exact one in `encoder`.

Before: `encoder` computes hidden states. After: its gradient step. Knows nothing of users or time.

Sampled softmax shares one set of negatives between all targets of a step and subtracts log Q from every logit (Bengio &
Senecal 2008; Yi et al. 2019, "Sampling-bias-corrected neural modeling"). `Popularity.chances` says what they are drawn
by. In-batch negatives alone collapse (.002 NDCG@10 on ML-100K, docs/lab-book.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Drawn", "fused_sampled_softmax", "fused_softmax", "half_is_fast", "log_expected", "sample_negatives"]

CHUNK = 512
"""Places whose logits exist at the same time in `fused_softmax`: they stay in the processor's cache."""


LEAST = 0.1
"""Added to the chance of anything else than an item that was turned down, which may be 0."""


class Drawn(NamedTuple):
    """What targets are told from: rows of a table (m,) int64, ascending, and `log_expected` of all rows of it (r,)."""

    negatives: Tensor
    expected: Tensor


def half_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones (CPUs with AVX512-BF16: 3 times)."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


@torch.no_grad()
def fused_softmax(
    hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, weight: Tensor, half: bool
) -> tuple[float, Tensor, Tensor, Tensor]:
    """Softmax cross-entropy over all rows with its gradients at once, a chunk of places at a time.

    hidden (n, d), table (N, d), bias (N,), targets (n,) int64, weight (n,): below 0 it is that of
    a target that was turned down, whose loss is -log(1 - p). Returns the weighted loss and its gradients by hidden,
    table and bias. The (n, N) logits never exist as a whole, so large batches are affordable; with `half` they are
    bfloat16 (the gradients then differ by 0.2% in norm). The gradient of softmax cross-entropy needs no graph: it is
    (softmax - one-hot) * weight; that of -log(1 - p) is p / (1 - p) times as much, the other way.
    """
    dtype = torch.bfloat16 if half else hidden.dtype
    rows, offset = table.to(dtype), bias.to(dtype)
    to_hidden, to_table, to_bias = torch.empty_like(hidden), torch.zeros_like(table), torch.zeros_like(bias)
    loss, any_against = hidden.new_zeros(()), bool((weight < 0).any())
    for begin in range(0, len(hidden), CHUNK):
        part = slice(begin, begin + CHUNK)
        states, chosen, say = hidden[part].to(dtype), targets[part], weight[part]
        share = torch.softmax(torch.addmm(offset, states, rows.T), -1)  # (c, N)
        place = torch.arange(len(chosen), device=hidden.device)
        if any_against:
            chance = share[place, chosen].float()
            against, rest = say < 0, 1 - chance + LEAST
            loss += (torch.where(against, -rest.log(), chance.clamp(min=1e-30).log()) * say).sum()
            say = torch.where(against, say * chance / rest, say)
        else:
            loss += (share[place, chosen].float().clamp(min=1e-30).log() * say).sum()
        share[place, chosen] -= 1
        share *= say[:, None].to(dtype)
        to_hidden[part] = share @ rows
        to_table += share.T @ states
        to_bias += share.sum(0)
    return -float(loss), to_hidden, to_table, to_bias


def sample_negatives(chances: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
    """Different rows to contrast with, (m,) int64 ascending, of so many draws.

    `chances` (N,) float that sum to 1: one that is 0 is never drawn.
    """
    cumulative = chances.double().cumsum(0)
    draws = torch.rand(negatives, generator=generator, dtype=torch.float64) * cumulative[-1]
    rows = torch.searchsorted(cumulative, draws).clamp(max=len(chances) - 1)
    found: Tensor = rows.unique()  # type: ignore[no-untyped-call]
    return found


def log_expected(chances: Tensor, negatives: int) -> Tensor:
    """Log of how often rows of these chances, (r,), are each expected among so many draws, at most once: (r,)."""
    return torch.log(-torch.expm1(negatives * torch.log1p(-chances.clamp(1e-9, 1 - 1e-6))))


@torch.no_grad()
def fused_sampled_softmax(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    weight: Tensor,
    half: bool,
    drawn: Drawn,
) -> tuple[float, Tensor, Tensor, Tensor]:
    """The same of each target against what was drawn for all, corrected for sampling. A negative that is the target
    itself does not count.
    """
    dtype = torch.bfloat16 if half else hidden.dtype
    negatives, expected = drawn
    states, columns, own = hidden.to(dtype), table[negatives].to(dtype), table[targets]  # (n, d), (m, d), (n, d)
    offset, correction, against = bias[negatives] - expected[negatives], expected[targets], weight < 0
    any_against = bool(against.any())
    if any_against:  # these are in each sum by themselves, whatever was drawn
        correction = correction.masked_fill(against, 0.0)
    positive = (hidden * own).sum(-1) + bias[targets] - correction  # (n,)
    said = torch.addmm(offset.to(dtype), states, columns.T)  # (n, m)
    place = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)
    hit = (negatives[place] == targets).nonzero()[:, 0]
    said[hit, place[hit]] = -1e9
    share = torch.softmax(torch.cat([positive[:, None].to(dtype), said], 1), -1)  # (n, 1 + m)
    chance = share[:, 0].float()
    rest = 1 - chance + LEAST
    likely = chance.clamp(min=1e-30).log()
    if any_against:
        likely = torch.where(against, -rest.log(), likely)
    loss = -float((likely * weight).sum())
    if any_against:
        weight = torch.where(against, weight * chance / rest, weight)
    at_target = (chance - 1) * weight  # gradients at the logits
    share = share[:, 1:].mul_(weight[:, None].to(dtype))
    to_hidden = torch.addcmul((share @ columns).to(hidden.dtype), at_target[:, None], own)
    to_table, to_bias = torch.zeros_like(table), torch.zeros_like(bias)
    to_table[negatives] = (share.T @ states).to(table.dtype)
    to_bias[negatives] = share.sum(0, dtype=bias.dtype)
    to_table.index_add_(0, targets, at_target[:, None] * hidden)
    to_bias.index_add_(0, targets, at_target)
    return loss, to_hidden, to_table, to_bias
