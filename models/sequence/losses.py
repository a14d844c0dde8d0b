"""Softmax over a large catalogue: sampled, with a correction. Small catalogues take the exact one in `encoder`.

Before: `encoder` computes hidden states. After: its gradient step. Knows nothing of users or time.

Sampled softmax shares one set of negatives between all targets of a step and subtracts log Q from every logit (Bengio &
Senecal 2008; Yi et al. 2019, "Sampling-bias-corrected neural modeling"). `Popularity.chances` says what they are drawn
by. In-batch negatives alone collapse (.002 NDCG@10 on ML-100K, docs/lab-book.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["fused_softmax", "half_is_fast", "sample_negatives", "sampled_softmax_losses"]

CHUNK = 512
"""Places whose logits exist at the same time in `fused_softmax`: they stay in the processor's cache."""


LEAST = 0.1
"""Added to the chance of anything else than an item that was turned down, which may be 0."""


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


def sample_negatives(chances: Tensor, negatives: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Different rows to contrast with, and the log of how often each is expected among `negatives` draws.

    `chances` (N,) float that sum to 1: one that is 0 is never drawn. Returns rows (m,) int64 ascending, and
    `log_expected` (N,) for all rows, so that targets can be corrected alike.
    """
    cumulative = chances.double().cumsum(0)
    draws = torch.rand(negatives, generator=generator, dtype=torch.float64) * cumulative[-1]
    rows = torch.searchsorted(cumulative, draws).clamp(max=len(chances) - 1)
    rows = rows.unique()  # type: ignore[no-untyped-call]
    log_expected = torch.log(-torch.expm1(negatives * torch.log1p(-chances.clamp(1e-9, 1 - 1e-6))))
    return rows, log_expected


def sampled_softmax_losses(
    hidden: Tensor,
    targets: Tensor,
    table: Tensor,
    bias: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    against: Tensor | None = None,
) -> Tensor:
    """Cross-entropy (n,) of each target against shared negatives, corrected for sampling.

    `hidden` (n, d); `targets` (n,) and `negatives` (m,) int64 index `table` (N, d), `bias` (N,) and `log_expected`
    (N,). A negative that is the target itself is masked out. `against` (n,) bool: targets that were turned down, whose
    loss is -log(1 - p).
    """
    expected = log_expected[targets]
    if against is not None:  # these are in each sum by themselves, whatever was drawn
        expected = expected.masked_fill(against, 0.0)
    positive = (hidden * table[targets]).sum(-1) + bias[targets] - expected  # (n,)
    contrast = functional.linear(hidden, table[negatives], bias[negatives] - log_expected[negatives])  # (n, m)
    contrast = contrast.masked_fill(negatives[None, :] == targets[:, None], -1e9)
    logits = torch.cat([positive[:, None], contrast], 1)  # (n, 1 + m)
    losses = functional.cross_entropy(
        logits, torch.zeros(len(targets), dtype=torch.int64, device=hidden.device), reduction="none"
    )
    return losses if against is None else torch.where(against, -torch.log(LEAST - torch.expm1(-losses)), losses)
