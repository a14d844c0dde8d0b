"""All of a learner as arrays and JSON, and back: what a checkpoint holds.

Before: `learner.save`. After: `learner.load`, and the stream goes on as if nothing had happened. Knows no policy:
when to save is the trainer's business.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from headwater.errors import CheckpointError
from headwater.examples import Entry
from models.block import Pending
from models.checkpoint_file import REMEDY, read_checkpoint, write_checkpoint
from models.config import ModelConfig
from models.inputs import Steps

if TYPE_CHECKING:
    from models.learner import Learner

__all__ = ["collect", "load", "save"]

PENDING_ARRAYS = ("excluded", "memories")


def save(learner: Learner, path: Path, extra: dict[str, Any]) -> None:
    """Write everything. See `Learner.save`."""
    write_checkpoint(path, *collect(learner, extra))


def collect(learner: Learner, extra: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What `write_checkpoint` takes. Mostly views of what learning changes: copy them before it goes on."""
    tensors = dict(_arrays(learner)) | {"content.meanings": learner.content.meanings}
    replay_arrays, replay_values = learner.replay.state()
    tensors |= {f"replay.{name}": array for name, array in replay_arrays.items()}
    for i, pending in enumerate(learner.pending):
        if pending.excluded is not None and pending.memories is not None:
            tensors[f"pending.{i}.excluded"] = pending.excluded
            for k, (rows, scores) in enumerate(pending.memories):
                tensors |= {f"pending.{i}.rows{k}": rows, f"pending.{i}.scores{k}": scores}
    replay_values["random"] = integers_as_text(replay_values["random"])
    header = {
        "config": learner.config.model_dump(mode="json"),
        "seed": learner.seed,
        "examples_seen": learner.examples_seen,
        "version": learner.publication.version,
        "digest": learner.publication.digest,
        "items": learner.items.state(),
        "types": list(learner.types),
        "content": learner.content.state(),
        "landmark_ms": learner.popularity.landmark_ms,
        "newest_ms": learner.popularity.newest_ms,
        "replay": replay_values,
        "prequential_events": learner.prequential.events,
        "adam_steps": [adam.steps for adam in _adams(learner)],
        "pending": [_pending_values(pending) for pending in learner.pending],
        "extra": extra,
    }
    return tensors, header


def load(cls: type[Learner], path: Path, device: str) -> tuple[Learner, dict[str, Any]]:
    """Read everything. See `Learner.load`."""
    tensors, header = read_checkpoint(path)
    try:
        learner = cls(ModelConfig(**header["config"]), header["seed"])
        learner.items.load(header["items"])
        capacity = len(tensors["popularity.counts"])
        if capacity > learner.capacity:
            learner.grow(capacity)
        for name, array in _arrays(learner):
            array[...] = tensors[name]
        learner.generator.set_state(torch.from_numpy(np.array(tensors["generator"])))
        learner.examples_seen = header["examples_seen"]
        learner.publication.version, learner.publication.digest = header["version"], header["digest"]
        learner.types = {name: i + 1 for i, name in enumerate(header["types"])}
        learner.content.load(header["content"], tensors["content.meanings"], learner.items.ids)
        learner.popularity.landmark_ms = header["landmark_ms"]
        learner.popularity.newest_ms = header["newest_ms"]
        header["replay"]["random"] = text_as_integers(header["replay"]["random"])
        learner.replay.load({n: tensors[f"replay.{n}"] for n in learner.replay.state()[0]}, header["replay"])
        learner.prequential.events = header["prequential_events"]
        for adam, steps in zip(_adams(learner), header["adam_steps"], strict=True):
            adam.steps = steps
        memories = len(learner.memories)
        learner.pending = [_pending(values, tensors, i, memories) for i, values in enumerate(header["pending"])]
        extra: dict[str, Any] = header["extra"]
        learner.move(device)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"checkpoint {path} does not fit this release ({error!r}): {REMEDY}") from error
    return learner, extra


def _adams(learner: Learner) -> list[Any]:
    encoder = learner.encoder
    return [encoder.table_adam, encoder.bias_adam, encoder.dense_adam, learner.gate.adam, learner.returns.adam]


def _arrays(learner: Learner) -> list[tuple[str, NDArray[Any]]]:
    """Every array of the state by name, as views that can be written into."""
    encoder, gate, returns = learner.encoder, learner.gate, learner.returns
    found: list[tuple[str, NDArray[Any]]] = [
        ("popularity.log", learner.popularity.log),
        ("popularity.counts", learner.popularity.counts),
        ("return_rate.events", learner.return_rate.events),
        ("return_rate.returns", learner.return_rate.returns),
        ("prequential.ranks", learner.prequential.ranks),
        ("prequential.losses", learner.prequential.losses),
        ("generator", learner.generator.get_state().numpy()),
    ]
    for k, memory in enumerate(learner.memories):
        for name in ("ids", "weights", "own", "base", "log_count", "log_source", "target_scale"):
            found.append((f"memory{k}.{name}", getattr(memory, name)))
    tensors = {"table": encoder.table, "bias": encoder.bias, "dense": encoder.dense, "gate": gate.flat}
    tensors["returns"] = returns.flat
    for name, adam in zip(tensors, _adams(learner), strict=True):
        found += [
            (name, _view(tensors[name])),
            (f"{name}.first", _view(adam.first)),
            (f"{name}.second", _view(adam.second)),
        ]
    for name in ("table", "bias", "dense", "taken", "last"):
        found.append((f"average.{name}", _view(getattr(encoder.averages, name))))
    found.append(("average.gain", encoder.averages.gain))
    return found


def _view(tensor: torch.Tensor) -> NDArray[Any]:
    view: NDArray[Any] = tensor.cpu().numpy()
    return view


def _pending_values(pending: Pending) -> dict[str, Any]:
    return {
        field.name: list(value) if isinstance(value := getattr(pending, field.name), Entry | Steps) else value
        for field in fields(pending)
        if field.name not in PENDING_ARRAYS
    }


def _pending(values: dict[str, Any], tensors: dict[str, NDArray[Any]], i: int, memories: int) -> Pending:
    last = Entry(*values["last"]) if values["last"] is not None else None
    read = {"last": last, "target": Entry(*values["target"]), "steps": Steps(*values["steps"])}
    pending = Pending(**{**values, **read})
    if f"pending.{i}.excluded" in tensors:
        pending.excluded = tensors[f"pending.{i}.excluded"]
        pending.memories = [
            (tensors[f"pending.{i}.rows{k}"], tensors[f"pending.{i}.scores{k}"]) for k in range(memories)
        ]
    return pending


def integers_as_text(value: Any) -> Any:
    """128-bit integers of a generator's state as text: JSON readers keep 64 bits."""
    if isinstance(value, dict):
        return {key: integers_as_text(inner) for key, inner in value.items()}
    return f"int:{value}" if isinstance(value, int) else value


def text_as_integers(value: Any) -> Any:
    """The reverse of `integers_as_text`."""
    if isinstance(value, dict):
        return {key: text_as_integers(inner) for key, inner in value.items()}
    return int(value[4:]) if isinstance(value, str) and value.startswith("int:") else value
