"""What does a report, a model card or a terminal summary need to know? One frozen record, filled by ``run.py``.

Everything in it becomes JSON with ``as_record`` and comes back with ``from_record``, so that a report can be
rendered again from a run folder. Nothing here formats or computes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from whet.data.rows import Finding
from whet.evaluation.records import Judgement
from whet.tasks.predictions import Kind
from whet.trackers.tracker import Account

T = TypeVar("T")


@dataclass(frozen=True)
class Roles:
    """Which column plays which part, see ``whet.data.rows.Columns``."""

    inputs: tuple[str, ...]
    target: tuple[str, ...]
    group: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class InputWords:
    """How a kind of input is spoken of: one value and several, how those of one row may be given, and the hub's name of
    the task."""

    one: str = "text"
    many: str = "texts"
    example: tuple[str, ...] = ("a new text",)
    hub_task: str = "text-classification"


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The rows of a run. ``split`` is a sentence that says how they were divided.

    ``rows`` maps a split or test set to its number of rows, in the order to show; ``class_counts`` those of train.
    ``task`` is what the target was recognised as; "" where a story was written without it.
    """

    source: str
    columns: Roles
    rows: dict[str, int]
    split: str = ""
    class_counts: dict[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    task: str = ""
    words: InputWords = InputWords()


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The model a run started from. ``name`` is a hub id where there is one; unknown parts stay empty.

    Where it is the model of an earlier run, ``name`` is that run, and ``base`` what the first of them began with.
    ``loading`` names the library that opens the packaged ``model/`` folder without whet, ``python`` the lines that do.
    ``window`` is how many tokens plain loading reads of a text, None when nothing is cut.
    """

    name: str
    base: str = ""
    revision: str = ""
    sha256: str = ""
    licence: str = ""
    parameters: int = 0
    loading: str = ""
    python: str = ""
    window: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run takes, forecast or measured; None where it is not known.

    ``least_seconds`` is the lower end of a range; ``seconds`` the upper.
    """

    seconds: float | None = None
    least_seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung of the ladder, tried in this order; the last one that was kept is the model.

    ``score`` is the chosen metric on the rows kept for choosing. Gains are over the best rung before, in points
    (``relative``: in percent of its error), turned so that more is better: ``gain_low`` is the lower 80% bound,
    ``gain_high`` the upper 95% bound; both on ``rows``.
    ``cost`` is its time as a multiple of the first rung's.
    ``why`` is a sentence: why it was kept, dropped, or never tried.
    """

    name: str
    trainable_parameters: int
    steps: int
    seconds: float
    score: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    relative: bool = False
    rows: int = 0
    cost: float | None = None
    kept: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of a learning curve; a loss that was not measured at this step is None."""

    stage: str
    step: int
    train_loss: float | None = None
    valid_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row to look at, its text shortened.

    ``source`` says where ``row_id`` counts: the part of the rows, "" for those of the file to learn from.
    ``target`` and ``predicted`` hold one label, several for multi-label, a number as text for regression.
    ``thumbnail`` is its input as a small picture, a ``data:`` address, where words do not show it.
    """

    source: str
    row_id: int
    text: str
    target: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    confidence: float | None = None
    thumbnail: str = ""


@dataclass(frozen=True, kw_only=True)
class Story:
    """One run, told.

    Args:
        name: The run's name. created: ISO time. command: The command or call that made it.
        folder: How commands name the run folder; the name when empty.
        seconds: Wall-clock seconds in all. parts: seconds of each part, in order.
        summary: One sentence that describes the method.
        plan: The resolved plan as a nested dict of plain values.
        notes: Sentences a reader must know (windows pooled, replay off and why, decisions).
        interrupted: The user ended it early; the model is the best until then.
        judgements: One per test set, the first one leading.
        examples: Worst rows of every test set, and rows that findings point at.
        scatter: Regression only: test set to (target, prediction) pairs.
        forecast_taken: Seconds that were forecast for the steps really taken, which may have ended early.
        accounts: Tracker to what it found out. views: tracker to the command that shows what it wrote.
        machine: One line about the machine. versions: package to version.
    """

    name: str
    created: str
    command: str
    task: Kind
    data: DataFacts
    model: ModelFacts
    method: str
    summary: str = ""
    folder: str = ""
    seconds: float = 0.0
    labels: tuple[str, ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    forecast: Cost = Cost()
    actual: Cost = Cost()
    forecast_taken: float | None = None
    rungs: tuple[Rung, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    judgements: tuple[Judgement, ...] = ()
    examples: tuple[Example, ...] = ()
    scatter: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The run folder as commands name it."""
        return self.folder or self.name

    def wrong(self, source: str, target: str, predicted: str) -> "list[Example]":
        """Rows of a test set that have one class and were given another, with pictures."""
        sought = (source, (target,), (predicted,))
        return [one for one in self.examples if one.thumbnail and (one.source, one.target, one.predicted) == sought]

    def example(self, source: str, row_id: int) -> Example | None:
        """The text and labels of one row, where the run kept them."""
        found = (one for one in self.examples if one.source == source and one.row_id == row_id)
        return next(found, None)


def as_record(story: Story) -> dict[str, Any]:
    """The story as plain dicts, lists, strings and numbers."""
    return asdict(story)


def from_record(record: Mapping[str, Any]) -> Story:
    """The story that ``as_record`` wrote, also after a trip through JSON. Keys it does not know are ignored."""
    return _build(Story, record)


def _build(kind: type[T], record: Mapping[str, Any]) -> T:
    hints = get_type_hints(kind)
    known = [one.name for one in fields(cast(Any, kind)) if one.name in record]
    return kind(**{name: _value(hints[name], record[name]) for name in known})


def _value(hint: Any, value: Any) -> Any:
    """``value`` with lists turned back into tuples and dicts into the records that ``hint`` names."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType) and value is not None:
        return _value(next(one for one in inner if one is not NoneType), value)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return _build(cast(type[Any], hint), value)
    if origin is tuple and isinstance(value, str):  # written before there could be several
        return (value,)
    if origin is tuple:
        hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_value(one, part) for one, part in zip(hints, value, strict=True))
    if origin is dict:
        return {key: _value(inner[1], part) for key, part in value.items()}
    return value
