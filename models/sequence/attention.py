"""Attention: the other body of the sequence encoder, made for GPUs, in the place of the recurrent unit.

Before: `encoder` has made a vector of every step. After: `encoder` projects the state of each step to item space;
`experts.sequence` adds the same maths to the graph. Knows vectors and time gaps, no items.

Blocks of pointwise gated causal attention after HSTU (Zhai et al. 2024, section 3): with y the normalised input,

    u, v, q, k = SiLU(y W);   x + (norm(sum_j SiLU(q_i k_j + place[i - j] + time[i, j]) v_j / length) * u) W_out

No softmax: how often the past agrees stays visible. `time` is three learned rates of the time between two steps, smooth
where HSTU has buckets: two runtimes cannot fall on two sides of an edge. Divided by the configured length, not by
the batch's: what a step's state is does not depend on who shares the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.config import ModelConfig

__all__ = ["TIME_RATES", "attention_shapes", "attention_states"]

TIME_RATES = (5.0, 50.0)
"""Besides the time t between two steps, on the scale of `inputs.encode_gap`, the bias reads exp(-rate * t)."""


def attention_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the blocks' weights."""
    d, heads = config.width, config.attention_heads
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(config.attention_blocks):
        shapes |= {
            f"block{i}_input_weight": (4 * d, d),  # gates, values, queries, keys
            f"block{i}_input_bias": (4 * d,),
            f"block{i}_output_weight": (d, d),
            f"block{i}_output_bias": (d,),
            f"block{i}_place_bias": (heads, config.length),
            f"block{i}_time_bias": (heads, 1 + len(TIME_RATES)),
        }
    return shapes


def attention_states(x: Tensor, gaps: Tensor, weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """States after each step, (B, T, d), of step vectors x (B, T, d) and gaps (B, T).

    Meant for T <= config.length; a step further back counts as that far.
    """
    batch, steps, d = x.shape
    heads = config.attention_heads
    at = torch.cumsum(torch.expm1(gaps.double() * 10.0), 1)  # seconds since the window began
    apart = torch.log1p((at[:, :, None] - at[:, None, :]).clamp(min=0)).float() / 10.0  # (B, T, T)
    times = torch.stack([apart, *(torch.exp(-rate * apart) for rate in TIME_RATES)], -1)  # (B, T, T, 3)
    place = torch.arange(steps, device=x.device)
    distance = place[:, None] - place[None]  # (T, T)
    causal = (distance >= 0).to(x.dtype) / config.length
    distance = distance.clamp(0, config.length - 1)
    for i in range(config.attention_blocks):
        y = functional.layer_norm(x, (d,))
        mixed = functional.silu(
            functional.linear(y, weights[f"block{i}_input_weight"], weights[f"block{i}_input_bias"])
        )
        gate, value, query, key = mixed.chunk(4, -1)  # each (B, T, d)
        value, query, key = (part.view(batch, steps, heads, -1).transpose(1, 2) for part in (value, query, key))
        bias = weights[f"block{i}_place_bias"][:, distance]  # (H, T, T)
        bias = bias + functional.linear(times, weights[f"block{i}_time_bias"]).permute(0, 3, 1, 2)  # (B, H, T, T)
        attention = functional.silu(query @ key.transpose(2, 3) + bias) * causal
        seen = (attention @ value).transpose(1, 2).reshape(batch, steps, d)
        gated = functional.layer_norm(seen, (d,)) * gate
        x = x + functional.linear(gated, weights[f"block{i}_output_weight"], weights[f"block{i}_output_bias"])
    return functional.layer_norm(x, (d,))
