"""Every number that shapes the model: sizes, rates and rules, in one frozen object.

Before: settings name fields of it as overrides. After: every part of `models` reads it, and it travels inside bundles
and checkpoints, so that a loaded model can never meet a configuration it was not trained under.
Knows nothing of where events come from or where models go.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from headwater.context import MAX_CONTEXT_FIELDS
from headwater.errors import SettingsError
from headwater.signals import Signal, Signals
from models.taught.teaching import TEACH_PER_MINUTE

__all__ = ["MemoryConfig", "ModelConfig", "checked", "differences", "model_config"]

Model = TypeVar("Model", bound=BaseModel)

JOIN_WINDOW_S = 1800.0
"""Half an hour: a visit."""


class MemoryConfig(BaseModel):
    """One association memory. Chosen on ML-100K events 60,000-80,000; docs/lab-book.md has the sweeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reach: int = Field(ge=1, le=1000, description="Newest history entries that are associated with a target.")
    symmetric: bool = Field(description="Also associate the target with the entries, not only the entries with it.")
    write_fade: float = Field(gt=0, le=1, description="Each entry further back is counted this much less.")
    read_fade: float = Field(gt=0, le=1, description="Each entry further back has this much less say.")
    source_power: float = Field(
        default=0.5, ge=0, le=1, description="Scores are divided by source count to this power."
    )
    target_power: float = Field(
        default=0.0, ge=0, le=1, description="Scores are divided by target count to this power."
    )
    slots: int = Field(default=512, ge=1, description="Associations kept per item.")
    half_life_hours: float | None = Field(
        default=None,
        gt=0,
        description="By event time: an association is worth half after so long, and so is what an entry says.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> MemoryConfig:
        if self.half_life_hours and self.target_power:
            raise ValueError("a memory with half_life_hours has no use for target_power: set it to 0")
        return self


class ModelConfig(BaseModel):
    """The model's configuration. Unknown fields are refused; `overrides` of the settings name fields of this class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # the stream
    block: int = Field(default=64, ge=1, description="Examples per gradient step of the encoder and the gate.")
    exclude_seen: tuple[str, ...] = Field(
        default=("auto",),
        description="Prequential ranking leaves out items of the history with these event types; "
        '["*"] all, [] none, ["auto"] those of types after which users seldom come back.',
    )
    window_events: int = Field(default=20_000, ge=1, description="Newest events that prequential metrics cover.")
    signals: dict[str, Signal] = Field(
        default_factory=dict,
        exclude_if=lambda named: not named,
        description="What types of event mean, over the defaults of headwater/signals.py: the settings [signals.NAME].",
    )
    type_weights: dict[str, float] = Field(
        default_factory=dict, description="How much a positive event of a type weighs, over the weight of its signal."
    )
    value_weight: float = Field(
        default=0.0,
        ge=0,
        description="A target weighs up to (1 + this) times, by its value; 0 ignores values.",
    )

    teach_per_minute: int = Field(
        default=TEACH_PER_MINUTE,
        ge=0,
        exclude_if=lambda bound: bound == TEACH_PER_MINUTE,
        description="A user's events beyond so many a minute, and 50 times as many a day, are not learned, unless "
        "others do a tenth as much; 0 learns from everybody without end (models/taught/teaching.py).",
    )

    time_zone: str = Field(
        default="UTC",
        exclude_if=lambda name: name == "UTC",
        description="By whose clock hour and weekday count.",
    )
    context_fields: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_CONTEXT_FIELDS,
        exclude_if=lambda fields: not fields,
        description="Fields of the context of requests, and of the properties of events, that count.",
    )
    user_fields: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_CONTEXT_FIELDS,
        exclude_if=lambda fields: not fields,
        description="Attributes of users that count.",
    )

    join_window_s: float = Field(
        default=JOIN_WINDOW_S,
        gt=0,
        exclude_if=lambda window: window == JOIN_WINDOW_S,
        description="Event time within which an event is a reaction to an item that was shown, where no request_id "
        "says so; what is left then was shown and not reacted to.",
    )

    # items
    initial_capacity: int = Field(default=256, ge=1, description="Rows allocated at first; grows by doubling.")
    max_items: int = Field(default=100_000, ge=16, description="Most rows; beyond, the longest idle items are let go.")
    admit_after: int = Field(default=1, ge=1, description="Events of an item before it gets a row.")
    expire_idle_events: int = Field(
        default=0, ge=0, description="An item unseen for this many events loses its row; 0 never."
    )
    sentence_model: str = Field(
        default="",
        description="Folder of a sentence model in ONNX form, which compares items' texts by what they mean; needs the "
        "extra `text`. Without one, by hashed words.",
    )
    max_types: int = Field(
        default=32, ge=1, le=1000, description="Event types told apart; later ones count as unknown."
    )

    # association memories
    memories: tuple[MemoryConfig, ...] = (
        MemoryConfig(reach=8, symmetric=False, write_fade=0.8, read_fade=0.8, source_power=0.5, target_power=0.0),
        MemoryConfig(reach=30, symmetric=True, write_fade=0.9, read_fade=0.8, source_power=0.5, target_power=0.4),
        MemoryConfig(
            reach=8, symmetric=False, write_fade=0.8, read_fade=0.5, source_power=0.5, half_life_hours=0.5, slots=256
        ),
    )
    memory_decay: float = Field(
        default=0.9999, gt=0, le=1, description="An item's counts times this at each of its events."
    )

    aversion: float = Field(
        default=0.5,
        ge=0,
        le=100,
        exclude_if=lambda said: said == 0.5,
        description="How much items sink that are associated with what the user turned down. More keeps more of what "
        "users would turn down out of answers, and misses more of what they would like.",
    )

    negative_loss: float = Field(
        default=10.0,
        ge=0,
        le=1000,
        exclude_if=lambda weight: weight == 10.0,
        description="How much the encoder's loss says that an item that was turned down is not what follows, times the "
        "weight of its signal; what a user was shown and passed over counts a tenth of it. More keeps more of what "
        "users would turn down out of answers, and misses more of what they would like.",
    )

    # popularity
    popularity_half_lives_days: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(14.0, 1 / 24),
        min_length=1,
        description="Half-lives of the model's popularities, in event time: what is popular, and what is just now.",
    )

    # repeats
    repeats: bool = Field(default=True, description="Learn which items of their history users come back to.")
    return_learning_rate: float = Field(default=2e-2, gt=0, description="Adam step size of what scores returns.")

    # the sequence encoder
    slow: bool = Field(default=True, description="Have one; off, the memories and popularity are all.")
    encoder: Literal["gru", "attention"] = Field(
        default="gru", description="What reads the history: a recurrent unit, or attention, which a GPU runs well."
    )
    attention_blocks: int = Field(default=2, ge=1, le=16, description="Blocks of the attention encoder.")
    attention_heads: int = Field(default=4, ge=1, description="Heads of each; they share the width.")
    length: int = Field(default=32, ge=1, le=1000, description="Newest history entries that the encoder reads.")
    shared_targets: int = Field(
        default=8, ge=1, description="Most examples of a user that share one pass of the encoder."
    )
    width: int = Field(default=64, ge=1, description="Size of item vectors and of the recurrent state.")
    learning_rate: float = Field(default=4e-3, gt=0, description="AdamW step size of the encoder's dense weights.")
    table_learning_rate: float = Field(default=1e-2, gt=0, description="Adam step size of item vectors and biases.")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW decoupled decay of dense weights.")
    average: float = Field(
        default=0.98,
        ge=0,
        lt=1,
        description="Scores are by a running mean of the weights that keeps this share at each step; 0: by the newest.",
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Of input vectors of replayed windows.")
    state_dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the states that predict, likewise.")
    clip_norm: float = Field(
        default=5.0, gt=0, description="Gradients of the dense weights are scaled down to this norm."
    )
    full_softmax_items: int = Field(default=8_192, ge=1, description="Above this many items the softmax is sampled.")
    negatives: int = Field(default=2048, ge=1, description="Shared negatives of a sampled softmax.")

    # replay
    replay_windows: int = Field(
        default=32, ge=0, description="Past windows rehearsed at each step; 0 turns replay off."
    )
    replay_targets: int = Field(default=512, ge=1, description="Positions of those windows that are predicted.")
    replay_capacity: int = Field(
        default=8192, ge=1, description="Windows kept: half newest, half a uniform sample of the past."
    )

    # gate
    gate_hidden: int = Field(default=16, ge=1, description="Hidden units of the gate.")
    learned_gate: bool = Field(default=True, description="Off, the experts keep the weights that they start with.")
    gate_learning_rate: float = Field(default=2e-2, gt=0, description="Adam step size of the gate.")

    ranker: bool = Field(
        default=True,
        exclude_if=lambda on: on,
        description="Have a second stage that sees item, person and moment of a few hundred candidates of each query.",
    )

    experts: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        exclude_if=lambda named: not named,
        description="Further experts by name, each with its own settings (models/experts/registry.py has the names).",
    )

    @cached_property
    def meanings(self) -> Signals:
        """What an event means: the defaults under `signals`."""
        return Signals(self.signals)

    @field_validator("time_zone")
    @classmethod
    def _of_the_earth(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError) as error:
            raise ValueError(
                f"{name!r:.80} is no time zone that is known here: give one such as Europe/Berlin"
            ) from error
        return name

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if any(not 0 <= weight < float("inf") for weight in self.type_weights.values()):
            raise ValueError(f"type_weights holds a weight that is negative or not finite: {self.type_weights}")
        if self.encoder == "attention" and self.width % self.attention_heads:
            raise ValueError(f"width is {self.width}: attention_heads, {self.attention_heads}, must divide it")
        if self.max_items < 2 * self.block:
            raise ValueError(
                f"max_items is {self.max_items} but block is {self.block}: a block may bring as many new items, so at "
                f"least {2 * self.block} are needed"
            )
        if self.shared_targets > self.length:
            raise ValueError(f"shared_targets is {self.shared_targets} but length is {self.length}: lower it")
        reach = max((memory.reach for memory in self.memories), default=0)
        if reach > self.length:
            raise ValueError(f"a memory reaches {reach} entries back but length is {self.length}: raise length")
        return self


def model_config(overrides: dict[str, Any], signals: Mapping[str, Signal] | None = None) -> ModelConfig:
    """The default configuration with some fields replaced.

    Parameters
        overrides: values by field of ModelConfig, as in the setting `model.overrides`.
        signals: what types of event mean, as in the settings `[signals.NAME]`.

    Raises
        SettingsError: a field is unknown or malformed.
    """
    if signals:
        overrides = {"signals": dict(signals), **overrides}
    return checked(ModelConfig, overrides, "model.overrides", "Fields are those of models.config.ModelConfig")


def checked(model: type[Model], values: dict[str, Any], where: str, remedy: str = "") -> Model:
    """Values as a model.

    Parameters
        model: a pydantic class.
        values: by field.
        where: the name of the settings, for the error.
        remedy: what the error says last.

    Raises
        SettingsError: a field is unknown or malformed.
    """
    try:
        return model(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc']))}: {p['msg']} (given {p['input']!r})" for p in error.errors()
        )
        raise SettingsError(f"{where}: {problems}. {remedy}".rstrip()) from error


def differences(then: ModelConfig, now: ModelConfig) -> str:
    """What is set otherwise, with both values, of signals by type.

    >>> differences(ModelConfig(width=16), ModelConfig(width=16, signals={"skip": Signal(weight=2)}))
    "signals.skip 'unset' -> {'weight': 2.0}"
    """
    a, b = _by_name(then), _by_name(now)
    pairs = {name: (a.get(name, "unset"), b.get(name, "unset")) for name in {**a, **b}}
    return ", ".join(f"{name} {one!r} -> {other!r}" for name, (one, other) in pairs.items() if one != other)


def _by_name(config: ModelConfig) -> dict[str, Any]:
    fields = {name: getattr(config, name) for name in ModelConfig.model_fields if name != "signals"}
    return fields | {
        f"signals.{kind}": one.model_dump(mode="json", exclude_defaults=True) or {"means": one.means.value}
        for kind, one in config.signals.items()
    }
