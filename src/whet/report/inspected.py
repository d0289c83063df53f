"""What inspecting a model found, as frozen records; everything becomes JSON with ``dataclasses.asdict``.

Nothing here computes. Numbers are parameters or elements of tensors; names are those of the model's modules.
"""

from dataclasses import dataclass, field
from typing import Literal

from whet.evaluation.records import Score
from whet.report.story import DataFacts


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Whence a model came and what lies on disk.

    ``stored`` maps a type to how many numbers of it the weight files hold. ``family`` is the catalog's name of what
    loads it, in float32 whatever is stored; ``features`` is the width of what the head reads.
    """

    name: str
    origin: str
    folder: str
    revision: str | None
    licence: str | None
    sha256: str
    architecture: str | None
    bytes: int
    stored: dict[str, int]
    family: str
    pooling: str
    features: int


@dataclass(frozen=True)
class Part:
    """A piece of the model, from input to output; ``unused`` of its parameters no gradient of the features reaches.

    A "stem" lies below every cut; without a chain of blocks that is all but the head.
    """

    name: str
    kind: Literal["stem", "block", "tail", "head"]
    parameters: int
    unused: int = 0


@dataclass(frozen=True)
class Crossing:
    """A place where the model can be cut: what lies below can be frozen, run once and replayed.

    ``width`` is what crosses: the elements of the tensors, for each token if ``per_token``, else for each example; None
    where the family names no example to try.
    """

    name: str
    parameters_below: int
    width: int | None
    per_token: bool


@dataclass(frozen=True)
class Problem:
    """Why something cannot work: the three lines of an error."""

    what: str
    where: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """What a method would train at its default settings.

    ``parameters`` move, of ``share`` of all that the prepared model has (an adapter adds some); they lie in ``moving``
    of ``blocks``. ``replay_gain`` bounds how many times faster replay makes the steps, None where there are no steps
    or replay gains nothing. ``problem`` says why the method cannot work here; the numbers are then 0.
    """

    name: str
    summary: str
    parameters: int = 0
    share: float = 0.0
    moving: int = 0
    blocks: int = 0
    epochs: float = 0.0
    replay_gain: float | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class BlockScore:
    """What a solved head reads behind ``depth`` blocks, on rows that it did not see."""

    name: str
    depth: int
    score: Score
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The lowest depth whose score is within one standard error of the best: what lies below it may stay frozen.

    ``train`` blocks lie above it. ``options`` are the words that try it, after ``whet finetune ROWS --target COLUMN``;
    none where no method trains just those.
    """

    depth: int
    train: int
    best: int
    sentence: str
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BlockProbe:
    """Scores behind every block. ``without`` is what a head reaches that sees no features.

    ``suggestion`` is None where no block tells more than that, or there are no blocks; ``notes`` say which.
    """

    metric: str
    rows: int
    folds: int
    without: Score
    blocks: tuple[BlockScore, ...]
    suggestion: Suggestion | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A model: its parts, where it can be cut, what each method would train, and what probes read in each block.

    ``outputs`` is the width of the new head that is counted: that of the rows, or 2 where there are none.
    """

    weights: Weights
    outputs: int
    parameters: int
    parts: tuple[Part, ...]
    cuts: tuple[Crossing, ...]
    methods: tuple[MethodFacts, ...]
    data: DataFacts | None = None
    probe: BlockProbe | None = None
    notes: tuple[str, ...] = field(default=())
