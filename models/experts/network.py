"""A small network of dense weights, kept as one flat vector so that its optimizer takes one step and not several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.part import Changes, Input, Part, weight_of
from models.sequence.optimizer import Adam

__all__ = ["Network"]

Array = NDArray[np.float32]


class Network(Part):
    """Weights by name, on the CPU wherever the encoder is, and the optimizer that steps them."""

    label: str
    """What a checkpoint calls the flat vector."""

    def __init__(self, start: Mapping[str, torch.Tensor], learning_rate: float) -> None:
        self.shapes = {name: tuple(one.shape) for name, one in start.items()}
        self.flat = torch.cat([one.ravel() for one in start.values()])
        self.adam = Adam(self.flat, learning_rate)
        self.stepped = True  # since the last publication

    def descend(self, gradients: Mapping[str, Array]) -> None:
        """One step down the loss, given its gradient at every weight."""
        flat = np.concatenate([gradients[name].ravel() for name in self.shapes]).astype(np.float32)
        self.adam.step(torch.from_numpy(flat))
        self.stepped = True

    def inputs(self) -> dict[str, Input]:
        """The weights, all dense."""
        return {name: Input(np.float32, shape) for name, shape in self.shapes.items()}

    def weights(self) -> dict[str, Array]:
        """The weights by name, as views of the flat vector."""
        pieces = torch.split(self.flat, [int(np.prod(shape)) for shape in self.shapes.values()])
        return {
            name: piece.view(shape).numpy() for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights."""
        self.flat = torch.cat(
            [torch.from_numpy(weight_of(weights, name, shape)).ravel() for name, shape in self.shapes.items()]
        )

    def take_changes(self) -> Changes:
        """All of it after a step."""
        dense, self.stepped = list(self.shapes) if self.stepped else [], False
        return Changes(dense=dense)

    def state(self) -> dict[str, NDArray[Any]]:
        """The flat vector."""
        return {self.label: self.flat.numpy()}

    def adams(self) -> dict[str, Adam]:
        """One."""
        return {self.label: self.adam}
