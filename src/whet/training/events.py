"""What happened during fit, as frozen records. Observers read them and return nothing.

Each becomes one line of events.jsonl (``as_record``); the same records feed the progress line and the report.
Times are apart from results: two equal runs differ in ``seconds``, ``before`` and ``at`` alone.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of every event. ``stage`` names what is being done, such as "probe" or "top-layers 2"."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A stage begins. ``steps`` is 0 for a solved head; ``examples`` are those it trains on."""

    steps: int
    examples: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """One optimizer update is done. ``loss`` is the mean training loss of its window."""

    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    examples: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Validation loss was measured; ``best`` says whether it is the lowest of this stage so far."""

    step: int
    loss: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Progressed(Event):
    """Work without updates advanced: features, solving, predicting. ``done`` of ``total`` in ``unit``."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class Checkpointed(Event):
    """The state after ``step`` is safely on disk."""

    step: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Said(Event):
    """One sentence the user should read, such as why replay is off."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """A stage ended. ``reason`` is "done", "early", "clock" or "interrupt".

    ``seconds`` are those of the whole stage, ``before`` how many of them it took in runs that this one goes on from.
    """

    step: int
    reason: str
    seconds: float
    before: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Milestone(Event):
    """Base of what marks a place in the run and is no work of a stage."""


@dataclass(frozen=True, kw_only=True)
class Fitting(Milestone):
    """A fit begins; ``stage`` is its method. Events until the next one belong to it.

    A run has several under ``auto``: one for each rung, and one for a winner that is fitted again. Their order is the
    plan's, so a resumed run counts them as the first one did.
    """


@dataclass(frozen=True, kw_only=True)
class Judged(Milestone):
    """Everything is fitted and judged, and the report is written next; ``scores`` are test set -> metric -> value."""

    scores: dict[str, dict[str, float]]


def as_record(event: Event) -> dict[str, Any]:
    """The event as a flat JSON-able dict with its kind under ``event``."""
    return {"event": type(event).__name__.lower(), **asdict(event)}
