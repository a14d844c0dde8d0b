"""Plain torch, as the yardstick of learning: the encoder's work with torch's own layers and optimizers, on tensors that
are ready; and SASRec (Kang and McAuley 2018) of the same size, as a user would train it on the newest windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import ModelConfig

__all__ = ["BareSteps", "SasRecSteps"]


class _States(nn.Module):
    """A recurrent unit, or causal attention with positions, over item vectors (B, T, d)."""

    def __init__(self, config: ModelConfig, attention: bool) -> None:
        super().__init__()
        d = config.width
        self.attention = attention
        if attention:
            layer = nn.TransformerEncoderLayer(
                d, config.attention_heads, d, dropout=0.0, batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, config.attention_blocks, enable_nested_tensor=False)
            self.places = nn.Parameter(torch.zeros(config.length + 1, d))
        else:
            self.unit = nn.GRU(d, d, batch_first=True)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        if not self.attention:
            return self.out(self.unit(x)[0])
        steps = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(steps)
        return self.out(self.blocks(x + self.places[:steps], mask=mask, is_causal=True))


class BareSteps:
    """Steps of what our encoder does for one block: its windows and replayed ones, a softmax over all items or over
    shared negatives, torch's Adam for the rows that were touched and AdamW for the rest.
    """

    def __init__(self, config: ModelConfig, items: int) -> None:
        self.config, self.items = config, items
        generator = torch.Generator().manual_seed(0)
        windows, length = config.block + config.replay_windows, config.length
        self.history = torch.randint(0, items, (windows, length), generator=generator)
        targets = config.block + config.replay_targets
        replayed = torch.randint(config.block, windows, (config.replay_targets,), generator=generator)
        self.row = torch.cat([torch.arange(config.block), replayed])
        self.step_of = torch.randint(0, length, (targets,), generator=generator)
        self.targets = torch.randint(0, items, (targets,), generator=generator)
        self.sampled = items > config.full_softmax_items
        self.table = nn.Embedding(items, config.width, sparse=True)
        self.states = _States(config, config.encoder == "attention")
        self.of_table = torch.optim.SparseAdam(list(self.table.parameters()), lr=config.table_learning_rate)
        self.of_states = torch.optim.AdamW(self.states.parameters(), lr=config.learning_rate)

    def __call__(self) -> None:
        """One step."""
        self.of_table.zero_grad()
        self.of_states.zero_grad()
        at = self.states(self.table(self.history))[self.row, self.step_of]  # (n, d)
        if self.sampled:
            negatives = torch.randint(0, self.items, (self.config.negatives,))
            logits = torch.cat([(at * self.table(self.targets)).sum(-1, keepdim=True), at @ self.table(negatives).T], 1)
            loss = functional.cross_entropy(logits, torch.zeros(len(at), dtype=torch.long))
        else:
            loss = functional.cross_entropy(at @ self.table(torch.arange(self.items)).T, self.targets)
        loss.backward()
        self.of_table.step()
        self.of_states.step()


class SasRecSteps:
    """Steps of SASRec over as many windows as a block has events: each place of a window predicts the next, by a
    softmax over all items, with torch's Adam over all weights.
    """

    def __init__(self, config: ModelConfig, items: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.windows = torch.randint(0, items, (config.block, config.length + 1), generator=generator)
        self.table = nn.Embedding(items, config.width)
        self.states = _States(config, attention=True)
        self.optimizer = torch.optim.Adam([*self.table.parameters(), *self.states.parameters()], lr=1e-3)

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        said = self.states(self.table(self.windows[:, :-1])) @ self.table.weight.T  # (B, T, N)
        functional.cross_entropy(said.flatten(0, 1), self.windows[:, 1:].flatten()).backward()
        self.optimizer.step()
