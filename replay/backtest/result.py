"""The result of a backtest, from the run that makes it to whoever reads it: table, page, comparison, benchmark, JSON.

Before: `replay.backtest.run` makes one, or `read_result` reads a file. Knows neither how it was measured nor how it is
shown. Rankers, event types and groups are keys of dicts: which there are depends on the stream and on the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import orjson
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from headwater.errors import SourceError

__all__ = [
    "FORMAT",
    "AgedWeights",
    "AtThreshold",
    "CalibrationBin",
    "Classification",
    "Classifier",
    "DependencePoint",
    "Diversity",
    "DiversityPoint",
    "Estimate",
    "Fold",
    "FoldMeasures",
    "FoldSpread",
    "GroupedAuc",
    "Importance",
    "Interval",
    "Leads",
    "Measures",
    "Negatives",
    "Outcome",
    "PartImportance",
    "RankerNegatives",
    "Result",
    "SeedScores",
    "SettingsUsed",
    "Slice",
    "SourceRead",
    "Spread",
    "TypeMeaning",
    "Window",
    "read_result",
]

FORMAT = 1

LENIENT = "lenient"
"""Key of the validation context under which what is missing or wrong is left out; else it is an error."""

REQUIRED = ("source", "settings", "results", "events", "warm_up", "queries")
"""What a file must have to be a result."""

Outcome = Literal["better", "level", "worse", "unmeasured"]

Count = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Text = Annotated[str, BeforeValidator(lambda given: _written(given) if isinstance(given, str) else given)]
"""A text of the data: a file's name may hold bytes that are no characters, which no JSON can."""


def _written(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class ResultPart(BaseModel):
    """A part of a result. JSON has the aliases: `ndcg@10` is no name for an attribute."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _as_far_as_it_goes(cls, given: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """The value; of what somebody changed by hand, in a lenient reading, all that can be read, else the default."""
        try:
            return handler(given)
        except ValidationError:
            field = cls.model_fields[str(info.field_name)]
            if not (info.context or {}).get(LENIENT):
                raise
            kept: Any = None
            if isinstance(given, list):
                kept = [one for each in given for one in _read(handler, [each], list) or ()]
            elif isinstance(given, Mapping):
                kept = {}
                for key, each in given.items():
                    kept |= _read(handler, {key: each}, dict) or {}
            if kept is not None and _read(handler, type(kept)(), type(kept)) is not None:
                return kept
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True)


def _read(handler: ValidatorFunctionWrapHandler, given: Any, kind: type[Any]) -> Any:
    """What a field makes of a value, if that is of this kind."""
    try:
        made = handler(given)
    except ValidationError:
        return None
    return made if type(made) is kind else None


class Interval(NamedTuple):
    """Headwater minus another ranker on the same queries: mean and ends of a 95% interval over users."""

    low: Number
    mean: Number
    high: Number

    @property
    def says(self) -> Outcome:
        """Whether Headwater is ahead: only an interval without zero decides."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "level"


class SourceRead(ResultPart):
    """What was read, and what of it was refused.

    `without_example`: events that teach nothing, by reason: a `misplaced_list`, whose type does not mean that it was
    shown, and an `undo_of_nothing`.
    """

    name: Text | None = None
    digest: str | None = None
    events: Count | None = None
    rows: Count | None = None
    duplicates: Count | None = None
    left_out: dict[str, Count] = {}
    without_example: dict[str, Count] = {}
    bad: dict[str, Count] = {}
    first_bad: list[Text] = []
    time_unit: Text | None = None


class SettingsUsed(ResultPart):
    """How it was asked. A file of another version may have more or fewer of them."""

    model_config = ConfigDict(extra="allow")

    warm_up: Number | None = None
    exclude_seen: list[str] = []
    rule: list[str] = []
    peers: list[str] = []
    publish_every: list[Count] = []
    ablation: bool = False
    shares: list[Number] = []
    folds: Count | None = None
    seeds: list[Count] = []
    limit: Count | None = None
    window: Count | None = None
    catalogue: Count | None = None
    device: str | None = None
    overrides: dict[str, Any] = {}
    config: dict[str, Any] = {}


class Measures(ResultPart):
    """One ranker's means over all queries; coverage and novelty are of its lists, which not every ranker makes."""

    ndcg_10: Number | None = Field(None, alias="ndcg@10")
    hr_10: Number | None = Field(None, alias="hr@10")
    mrr_10: Number | None = Field(None, alias="mrr@10")
    recall_10: Number | None = Field(None, alias="recall@10")
    ndcg_20: Number | None = Field(None, alias="ndcg@20")
    hr_20: Number | None = Field(None, alias="hr@20")
    mrr_20: Number | None = Field(None, alias="mrr@20")
    recall_20: Number | None = Field(None, alias="recall@20")
    user_ndcg_10: Number | None = Field(None, alias="user_ndcg@10")
    coverage_10: Number | None = Field(None, alias="coverage@10")
    novelty_10: Number | None = Field(None, alias="novelty@10")


class SeedScores(ResultPart):
    """One ranker's NDCG@10 with each seed that it ran with."""

    ndcg: list[Number] = Field([], alias="ndcg@10")


class Leads(ResultPart):
    """Headwater minus one ranker, by measure; none where one user alone was asked about."""

    ndcg_10: Interval | None = Field(None, alias="ndcg@10")
    hr_10: Interval | None = Field(None, alias="hr@10")
    mrr_10: Interval | None = Field(None, alias="mrr@10")
    ndcg_20: Interval | None = Field(None, alias="ndcg@20")


class Slice(ResultPart):
    """Some of the queries, and the NDCG@10 of every ranker on them; None where there are no queries."""

    queries: Count = 0
    ndcg: dict[str, Number | None] = Field({}, alias="ndcg@10")


class Window(Slice):
    """The queries of some consecutive events, until `events` of the stream. `band`: (low, high) of each mean, 95%."""

    events: Count
    time: Count | None = None
    band: dict[str, tuple[Number, Number]] = {}


class AgedWeights(ResultPart):
    """NDCG@10 with weights that are published every `age_events`: 0 is the learner itself, None never again."""

    age_events: Count | None = None
    name: str | None = None
    ndcg: Number | None = Field(None, alias="ndcg@10")
    queries: Count | None = None


class Estimate(ResultPart):
    """A figure, and the ends of its 95% interval over users where there is more than one."""

    value: Number
    low: Number | None = None
    high: Number | None = None


class RankerNegatives(ResultPart):
    """What one ranker made of the items that users then turned down. `lead`: Headwater's share minus this one's."""

    in_top_10: Number | None = None
    auc: Number | None = None
    lead: Interval | None = None


class Negatives(ResultPart):
    """Events that spoke against their item, and the share of them whose item our list of ten would have held.

    Fields
        events, in_top_10: of Headwater.
        by_type: events by type.
        by_ranker: the same queries, put to every ranker. `auc` is the chance that it puts an item of a query, which the
            user then chose, higher than one that a user turned down: 0.5 cannot tell them apart.
    """

    events: Count
    in_top_10: Number | None = None
    by_type: dict[str, Count] = {}
    by_ranker: dict[str, RankerNegatives] = {}


class HeadFigures(ResultPart):
    """What the ranker's head for one type of event was worth, on the queries whose answer was of that type.

    Fields
        ndcg, hr: NDCG@10 and hit rate with `objectives = {type: 1}`; ndcg_without, hr_without: without objectives.
        share: how much of what the head said counted at the end, 0 to 1.
    """

    queries: Count
    ndcg: Number = Field(alias="ndcg@10")
    ndcg_without: Number = Field(alias="ndcg@10_without")
    hr: Number = Field(alias="hr@10")
    hr_without: Number = Field(alias="hr@10_without")
    share: Number


class RankerFigures(ResultPart):
    """What the second stage was worth, on all queries: beside it, the same scores without it.

    Fields
        candidates: most of a query. recall: share of the queries whose target was one; `full_ranking` is the share
            whose target was among the best hundred of all items without the ranker.
        ndcg, ndcg_without: NDCG@10 of all queries; new_items, new_items_without, new_items_recall: of the new items.
        share: how much of what the ranker said counted at the end, 0 to 1.
        by_type: type of event -> what its head was worth; of those with a head, where there are several.
    """

    candidates: Count
    recall: Number
    full_ranking: Number
    ndcg: Number = Field(alias="ndcg@10")
    ndcg_without: Number = Field(alias="ndcg@10_without")
    new_items: Number | None = None
    new_items_without: Number | None = None
    new_items_recall: Number | None = None
    share: Number
    by_type: dict[str, HeadFigures] = {}


class TypeMeaning(ResultPart):
    """A type of the stream's events: how many of them meant what, and the signal in force, as in the settings.

    `events` is of all events that were read, by meaning. `items` were shown, where an event shows a list.
    """

    events: dict[str, Count] = {}
    items: Count | None = None
    signal: dict[str, Any] = {}
    known: bool = True


class FoldMeasures(ResultPart):
    """One ranker's means over the queries of a fold; None where there are none."""

    ndcg_10: Number | None = Field(None, alias="ndcg@10")
    hr_10: Number | None = Field(None, alias="hr@10")
    mrr_10: Number | None = Field(None, alias="mrr@10")


class Fold(ResultPart):
    """One of equal spans after the warm-up: its events are asked about with all before them learned."""

    begin: Count
    end: Count
    time: Count | None = None
    queries: Count = 0
    results: dict[str, FoldMeasures] = {}


class Spread(ResultPart):
    """A figure over folds; the deviation is that of a sample."""

    mean: Number
    deviation: Number | None = None
    least: Number
    most: Number


class FoldSpread(ResultPart):
    """One ranker's figures over the folds that have queries."""

    ndcg_10: Spread | None = Field(None, alias="ndcg@10")
    hr_10: Spread | None = Field(None, alias="hr@10")
    mrr_10: Spread | None = Field(None, alias="mrr@10")


class CalibrationBin(ResultPart):
    """Items with about the same chance: how many, their mean chance, and the share of them that was reacted to."""

    items: Count
    chance: Number
    reacted: Number


class AtThreshold(ResultPart):
    """What calling positive all that scores at least `threshold` comes to: a chance, or minus the place in an order."""

    threshold: Number
    true_positive: Count
    false_positive: Count
    false_negative: Count
    true_negative: Count
    precision: Number
    recall: Number
    f1: Number
    accuracy: Number


class GroupedAuc(ResultPart):
    """The area under the ROC curve within each user who has both classes: by what each was shown, and each alike.

    `histogram`: users by their area, in ten bins of equal width. `lead`: Headwater's weighted one minus this one's.
    """

    users: Count
    weighted: Estimate
    unweighted: Estimate
    histogram: list[Count] = []
    lead: Interval | None = None


class Classifier(ResultPart):
    """What one scorer said of what was shown. Log loss and calibration are of chances; an order alone has neither.

    Fields
        roc, precision_recall: (false positive rate, true positive rate) and (recall, precision), about 100 points.
        calibration_error: mean distance of a bin's chance from its share, by items.
        mrr, ndcg_10: of what was reacted to, in lists of two items or more with a reaction.
        auc_lead, mrr_lead: Headwater's minus this one's.
    """

    auc: Estimate | None = None
    auc_lead: Interval | None = None
    log_loss: Estimate | None = None
    grouped: GroupedAuc | None = None
    calibration: list[CalibrationBin] = []
    calibration_error: Number | None = None
    at_threshold: AtThreshold | None = None
    roc: list[tuple[Number, Number]] = []
    precision_recall: list[tuple[Number, Number]] = []
    mrr: Estimate | None = None
    mrr_lead: Interval | None = None
    ndcg_10: Estimate | None = Field(None, alias="ndcg@10")


class TypeOfReaction(ResultPart):
    """How well one type of reaction was told, by the chance that was given to it alone: a click, a purchase.

    Fields
        items: shown since the type was first met, of which `reacted` had such a reaction.
        mrr: of those, in lists of two items or more, by that chance.
    """

    items: Count
    reacted: Count
    auc: Number | None = None
    log_loss: Number | None = None
    mrr: Number | None = None


class Classification(ResultPart):
    """What was shown after the warm-up and what became of it, as each scorer saw it before.

    Fields
        items, lists, users: shown, of which `reacted` items were reacted to within the time in which a reaction counts.
        ranked_lists: of two items or more, with a reaction.
        chosen_on, chosen_on_items: what thresholds were chosen on (`warm-up`, or the `first fifth` of what was shown,
            which then is no part of the figures), for the highest F1.
        scorers: Headwater and what it is held against.
        by_type: type of reaction -> how well it was told; empty where there is one type alone.
    """

    items: Count
    lists: Count
    users: Count
    reacted: Count
    ranked_lists: Count = 0
    chosen_on: str | None = None
    chosen_on_items: Count = 0
    scorers: dict[str, Classifier] = {}
    by_type: dict[str, TypeOfReaction] = {}


class PartImportance(ResultPart):
    """What one part of the model, or one fact of its ranker, matters: see `replay.backtest.importance`."""

    contribution: Number | None = None
    apart: Number | None = None
    left_out: Number | None = None
    permuted: Number | None = None


class DependencePoint(NamedTuple):
    """How much more the ranker adds to a candidate's score, by the mean, where a fact has this value."""

    value: Number
    added: Number


class Importance(ResultPart):
    """What the model goes by, over some of the queries and by the weights of the end of the warm-up.

    Fields
        ndcg_10: of the model on these queries.
        parts, facts: by name; the most important first.
        dependence: of each numeric fact of the ranker what it adds at several of its values.
    """

    queries: Count
    ndcg_10: Number | None = Field(None, alias="ndcg@10")
    parts: dict[str, PartImportance] = {}
    facts: dict[str, PartImportance] = {}
    dependence: dict[str, list[DependencePoint]] = {}


class DiversityPoint(ResultPart):
    """Lists at one diversity: what is found in them, how unlike the pairs of a list are, and the share of all items
    that is in any.
    """

    diversity: Number = 0.0
    ndcg_10: Number | None = Field(None, alias="ndcg@10")
    hr_10: Number | None = Field(None, alias="hr@10")
    list_diversity_10: Number | None = Field(None, alias="list_diversity@10")
    coverage_10: Number | None = Field(None, alias="coverage@10")


class Diversity(ResultPart):
    """What a surface's diversity costs and brings: see `replay.backtest.diversity`."""

    queries: Count = 0
    points: list[DiversityPoint] = []


class Result(ResultPart):
    """A backtest's result. All but `by_seed` is of the first seed; docs/operations.md says what each figure means."""

    format: Count = FORMAT
    source: SourceRead
    settings: SettingsUsed
    versions: dict[str, str] = {}
    events: Count
    warm_up: Count
    queries: Count
    users: Count | None = None
    excluded: dict[str, Count] = {}
    excluded_share: Number | None = None
    meanings: dict[str, TypeMeaning] = {}
    negatives: Negatives | None = None
    ranker: RankerFigures | None = None
    seconds: Number | None = None
    events_per_s: Number | None = None
    learner_events_per_s: Number | None = None
    peak_rss_mb: Number | None = None
    results: dict[str, Measures]
    by_seed: dict[str, SeedScores] = {}
    differences: dict[str, Leads] = {}
    curve: list[Window] = []
    by_type: dict[str, Slice] = {}
    groups: dict[str, Slice] = {}
    weight_age: list[AgedWeights] = []
    folds: list[Fold] = []
    fold_spread: dict[str, FoldSpread] = {}
    classification: Classification | None = None
    importance: Importance | None = None
    diversity: Diversity | None = None
    digest: str | None = None

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Self:
        """A result from JSON values. What is missing or wrong is left out, unless without it there is no result.

        Raises
            ValidationError: One of `REQUIRED` is missing or of another kind.
        """
        return cls.model_validate(tree, context={LENIENT: True})

    def as_json(self) -> dict[str, Any]:
        """JSON values: what was measured or read, and no defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @property
    def ndcg(self) -> dict[str, float | None]:
        """NDCG@10 by ranker."""
        return {name: measures.ndcg_10 for name, measures in self.results.items()}

    def lead(self, name: str) -> Interval | None:
        """Headwater's NDCG@10 minus that of a ranker, where an interval is known."""
        return self.differences[name].ndcg_10 if name in self.differences else None

    def seeds(self, name: str) -> list[float]:
        """NDCG@10 of a ranker with each of its seeds."""
        return self.by_seed[name].ndcg if name in self.by_seed else []


def read_result(path: Path) -> Result:
    """The result in a file that `headwater replay backtest --out` wrote, by this version or an older one.

    Raises
        SourceError: The file cannot be read or is no result; it says what to give instead.
    """
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    except orjson.JSONDecodeError as error:
        raise SourceError(f"{path}: is no JSON ({error}). Give a file that --out of a backtest wrote") from error
    remedy = "Give a file that `headwater replay backtest --out FILE` wrote"
    if not isinstance(found, dict) or "format" not in found:
        raise SourceError(f"{path}: JSON, but no result of a backtest (it has no format). {remedy}")
    if found["format"] != FORMAT:
        versions = found.get("versions")
        wrote = versions.get("headwater", "unknown") if isinstance(versions, dict) else "unknown"
        raise SourceError(
            f"{path}: format {found['format']!r}, this version reads {FORMAT}. Run the backtest again, or read it with "
            f"the version that wrote it ({wrote})"
        )
    try:
        return Result.read(found)
    except ValidationError as error:
        wrong = {each["loc"][0] for each in error.errors()}
        told = ", ".join(key for key in REQUIRED if key in wrong)
        raise SourceError(f"{path}: is not whole: {told} missing or of another kind. {remedy}") from error
