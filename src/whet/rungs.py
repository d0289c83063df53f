"""Which rungs does the automatic ladder have, and how many epochs each? Fixed at plan time from rows and budget.

No clock decides anything during fit, and no rung is planned that could not be compared: the budget is turned into
epochs here, once. With few rows to choose by, rungs are cross-fitted; with too few even for that, or no time, a ladder
is its first rung alone, or one that trials showed to gain with so few.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whet import catalog
from whet.errors import ConfigError, MachineError
from whet.forecast import Speeds
from whet.methods.method import Method, OnLadder, Place, Size, serves, whole
from whet.plan import Auto, LeftOut, Rung, member_of
from whet.training.settings import Training

VALID_SHARE, VALID_SHARE_OF_MANY, MANY_ROWS = 0.15, 0.1, 4000
"""Of the rows to learn from, held out to stop and to choose; the second from so many rows on."""
UNKNOWN = Size(parameters=0, rows=0, classes=0, compared=0)
"""Before anything was counted: the usual ladder."""
FEWEST_CHOOSING = 20
"""With fewer rows to choose by, rungs cannot be told apart, and one alone is climbed."""
FEW_CHOOSING, PARTS = 100, 3
"""With fewer rows to choose by, rungs are cross-fitted in so many parts if the budget covers it: every row to learn
from is then one to choose by, and a rung takes as many times longer as there are parts, the last fit included."""
FEWEST_EPOCHS = 2
"""A rung that could not make so many passes is left out."""
GOOD_EPOCHS = 4
"""Passes that the deepest rung should have before a shallower one beneath it gets any time."""
TRUSTED_SHARE = 0.5
"""Of its own passes, below which a method is not trusted on the strength of trials."""
SHARE = 0.35
"""Of what is left, at most, for a rung that a deeper one can still follow."""
MARGIN = 1.15
"""Forecasts are for a quiet machine; so much more is reserved when rungs are fixed."""


@dataclass(frozen=True)
class Counts:
    """What a ladder is chosen from.

    Args:
        pairs: Whether a row is two texts.
        classes: That features can be contrasted by; 0 where they cannot.
        learning_rows: Rows to train on and to validate by.
        training_rows: Of these, all but a validation file's.
        valid_rows: Held out or of a file.
    """

    pairs: bool
    classes: int
    learning_rows: int
    training_rows: int
    valid_rows: int


@dataclass(frozen=True)
class Conditions:
    """What rungs are fixed by, beside the budget."""

    speeds: Speeds
    training: Training
    counts: Counts

    @property
    def size(self) -> Size:
        """What methods choose their places by."""
        return Size(
            parameters=self.speeds.parameters,
            rows=self.counts.training_rows,
            classes=0 if self.counts.pairs else self.counts.classes,
            compared=0 if self.training.micro_batch_size else self.training.batch_size,
        )


def usual_valid_share(learning_rows: int) -> float:
    """The share of the rows to learn from that is held out where none was named."""
    return VALID_SHARE if learning_rows < MANY_ROWS else VALID_SHARE_OF_MANY


def stopping_rows(valid_rows: int) -> int:
    """How many validation rows stop a fit: a third, because a loss settles on fewer rows than a score does."""
    return valid_rows if valid_rows < 2 else max(1, valid_rows // 3)


def choosing_rows(valid_rows: int) -> int:
    """How many validation rows rungs are compared on: those that stop nothing."""
    return valid_rows - stopping_rows(valid_rows)


def can_choose(valid_rows: int) -> bool:
    """Whether so many validation rows can tell two rungs apart."""
    return choosing_rows(valid_rows) >= FEWEST_CHOOSING


def needs_valid(auto: Auto, valid_rows: int, learning_rows: int, *, pairs: bool) -> bool:
    """Whether a ladder has a use for validation rows: by themselves for its first rung, or to compare a second one."""
    methods = climbable(auto, pairs=pairs)
    compared = can_choose(valid_rows) or (auto.folds != 0 and learning_rows >= FEWEST_CHOOSING)
    return serves(methods[0], valid_rows) or (len(methods) > 1 and compared)


def worth_measuring(auto: Auto, speeds: Speeds, training: Training, counts: Counts) -> list[Method]:
    """The ladder's methods that may become rungs; where nothing can be compared the first one and a trusted one."""
    at = Conditions(speeds, training, counts)
    chosen, _ = named(auto, at)
    first, *others = climbable(chosen, pairs=counts.pairs)
    left, fits = seconds_left(auto, speeds)[1], max(1, ways(auto, counts)[-1])
    if not any(can_compare(counts, folds) for folds in ways(auto, counts)):
        trusted = trusted_of(others, at.size)
        others = [] if trusted is None else [trusted]
    return [first, *(one for one in others if out_of_reach(one, speeds, training, left, fits) is None)]


def seconds_left(auto: Auto, speeds: Speeds) -> tuple[float, float]:
    """The budget, which counts from the command on, and what of it is left for rungs.

    By default it is ten probes and at least two minutes, and what the run has taken by then.
    """
    seconds = auto.seconds or max(120.0, 10 * speeds.probe_seconds) + speeds.spent
    taken = speeds.spent + speeds.after_seconds + speeds.predict_seconds + speeds.fresh_seconds
    return seconds, seconds - taken


def out_of_reach(method: Method, speeds: Speeds, training: Training, left: float, fits: int) -> LeftOut | None:
    """Why a method is not even tried: the seconds left do not cover what it takes at the very least."""
    if not method.epochs:
        return None
    passes = min(FEWEST_EPOCHS, training.passes(method, speeds.learning_pieces(method)))
    try:
        least = fits * speeds.certain_seconds(method, passes)
    except ConfigError:  # it cannot work here, and says so where it is tried
        return None
    if least <= left:
        return None
    why = f"takes {least:,.0f} s at the very least, and {max(left, 0):,.0f} s are left for it"
    return LeftOut(catalog.name_of("method", method), why, "--time gives more")


def climbable(auto: Auto, *, pairs: bool) -> list[Method]:
    """The ladder's methods, for pairs without those that only solve a head.

    Raises:
        ConfigError: none is left.
    """
    methods: list[Method] = [whole(member_of("method", name)) for name in auto.methods or usual_methods(UNKNOWN)[0]]
    methods = [method for method in methods if method.epochs or not pairs]
    if not methods:
        raise ConfigError(
            "No method of the ladder can judge pairs: a frozen encoder never learnt to compare them.",
            where="method.methods",
            fix="add top-layers or full",
        )
    return methods


def usual_methods(size: Size) -> tuple[tuple[str, ...], dict[str, LeftOut]]:
    """The ladder for so many rows and weights, and by the name of each newcomer what it took the place of.

    Of two methods for one place ours is taken, then the first that another package registered.
    """
    usual: dict[int, str] = {}
    newcomers: dict[int, tuple[str, str]] = {}
    for name in catalog.members("method"):
        try:
            kind = catalog.find("method", name)
        except ImportError:  # of another package; whoever names it is told
            continue
        place = place_of(kind, size)
        if place is not None and place.when:
            newcomers.setdefault(kind.height, (name, place.when))
        elif place is not None:
            usual.setdefault(kind.height, name)
    names = [newcomers[height][0] if height in newcomers else name for height, name in sorted(usual.items())]
    hint = f"--set method.methods=[{','.join(name for _, name in sorted(usual.items()))}] climbs it"
    replaced = {
        name: LeftOut(usual[height], f"{name} takes its place {when}", hint)
        for height, (name, when) in newcomers.items()
        if height in usual
    }
    return tuple(names), replaced


def place_of(method: Any, size: Size) -> Place | None:
    """A method's place on the ladder, given its class or an instance of it."""
    return method.place(size) if isinstance(method, OnLadder) else None


def named(auto: Auto, at: Conditions) -> tuple[Auto, dict[str, LeftOut]]:
    """The ladder with its methods named, and by the name of each newcomer what it took the place of."""
    if auto.methods:
        return auto, {}
    names, replaced = usual_methods(at.size)
    return replace(auto, methods=names), replaced


def trusted_of(methods: Sequence[Method], size: Size) -> Method | None:
    """The one that is kept unless rows show it to be worse, if there is one."""
    places = [(method, place_of(method, size)) for method in methods]
    return next((method for method, place in places if place is not None and place.trusted), None)


@dataclass(frozen=True)
class Ladder:
    """Rungs compared in so many parts, 0 as held out, and what is not climbed."""

    folds: int
    rungs: tuple[Rung, ...]
    left_out: tuple[LeftOut, ...]


def fit_rungs(auto: Auto, speeds: Speeds, training: Training, counts: Counts) -> Auto:
    """Fix the rungs and their epochs from the budget; by default ten probes, and at least two minutes."""
    at = Conditions(speeds, training, counts)
    chosen, replaced = named(auto, at)
    seconds, left = seconds_left(auto, speeds)
    ladders = [ladder(chosen, at, left, folds) for folds in ways(auto, counts)]
    several = [one for one in ladders if len(one.rungs) > 1]
    steady = [one for one in several if any(rung.trusted for rung in one.rungs)]
    found = [*steady, *several, ladders[-1]][0]
    if not steady and not can_compare(counts, 0):
        found = unseen(found, chosen, at, left)
    climbed = {catalog.name_of("method", rung.method) for rung in found.rungs}
    left_out = (*found.left_out, *(one for newcomer, one in replaced.items() if newcomer in climbed))
    folds = found.folds if len(found.rungs) > 1 else 0
    return replace(auto, seconds=round(seconds, 1), folds=folds, rungs=found.rungs, left_out=left_out)


def ladder(auto: Auto, at: Conditions, left: float, folds: int) -> Ladder:
    """What ``left`` seconds cover if rungs are compared in so many parts."""
    methods, fits = climbable(auto, pairs=at.counts.pairs), max(1, folds)
    reach = {method: out_of_reach(method, at.speeds, at.training, left, fits) for method in methods[1:]}
    kept, cannot = comparable(methods, at.speeds, at.counts, folds, reach)
    rungs, unaffordable = within(left, kept, at, fits)
    return Ladder(folds, rungs, (*cannot, *unaffordable))


def unseen(plain: Ladder, auto: Auto, at: Conditions, left: float) -> Ladder:
    """The ladder where held-out rows are too few and the budget covers no other comparison of a trusted method.

    That is this method alone, if the budget covers one fit of it, else the plain ladder.
    """
    first, *others = climbable(auto, pairs=at.counts.pairs)
    one = trusted_of(others, at.size)
    if one is None or out_of_reach(one, at.speeds, at.training, left, 1) is not None:
        return plain
    methods, _ = comparable([one], at.speeds, at.counts, 0, {})
    rungs, _ = within(left, methods, at, 1)
    if not rungs or not rungs[0].trusted:
        return plain
    name, place = catalog.name_of("method", one), place_of(one, at.size)
    assert place is not None
    gained = " ".join(["gained", *place.when.split(), "in trials"])
    few = too_few(at.counts.learning_rows, at.counts.valid_rows)
    left_out = [
        LeftOut(other, f"{few}, and {name} {gained}", f"--method {other} takes it alone")
        for other in (catalog.name_of("method", method) for method in (first, *others) if method != one)
    ]
    return Ladder(0, rungs, tuple(left_out))


def ways(auto: Auto, counts: Counts) -> list[int]:
    """In how many parts rungs may be compared, 0 as held out; the first way that the budget covers is taken."""
    if auto.folds is not None:
        return [auto.folds]
    few = choosing_rows(counts.valid_rows) < FEW_CHOOSING and counts.learning_rows >= FEWEST_CHOOSING
    return [PARTS, 0] if few else [0]


def can_compare(counts: Counts, folds: int) -> bool:
    """Whether rungs can be told apart in so many parts."""
    return bool(folds) or can_choose(counts.valid_rows)


def within(left: float, methods: list[Method], at: Conditions, fits: int) -> tuple[tuple[Rung, ...], list[LeftOut]]:
    """The rungs that ``left`` seconds cover, each fitted ``fits`` times, and what they do not cover."""
    speeds, training = at.speeds, at.training
    rungs: list[Rung] = []
    left_out: list[LeftOut] = []
    for position, method in enumerate(methods):
        if not method.epochs:
            left -= fits * speeds.solve_seconds
            rungs.append(Rung(method=method, epochs=0, seconds=round(speeds.fresh_seconds + speeds.solve_seconds, 1)))
            continue
        place, wanted = place_of(method, at.size), training.passes(method, speeds.learning_pieces(method))
        own = replace(training, epochs=None, least_steps=None).passes(method, speeds.learning_pieces(method))
        share, epochs = left / fits, passes_in(left / fits, method, at)
        trusted = place is not None and place.trusted and epochs >= TRUSTED_SHARE * own
        if not trusted:  # it leaves time for a deeper one
            share = share_of(methods[position + 1 :], left / fits, speeds, training)
            epochs = passes_in(share, method, at)
        if epochs < min(FEWEST_EPOCHS, wanted) and rungs:
            least = fits * least_seconds(speeds, method, training)
            beside = " beside a deeper rung" if share < left / fits else ""
            why = f"takes about {least:,.0f} s, and {max(fits * share, 0):,.0f} s are left for it{beside}"
            left_out.append(LeftOut(catalog.name_of("method", method), why, "--time gives more"))
            continue
        epochs = max(epochs, 1.0)
        took = fits * speeds.rung_seconds(method, epochs)
        left -= took * MARGIN
        rungs.append(Rung(method=method, epochs=epochs, seconds=round(took, 1), trusted=trusted))
    return tuple(rungs), left_out


def passes_in(seconds: float, method: Method, at: Conditions) -> float:
    """How many of its passes a method makes in so many seconds, rounded down to tenths."""
    start = at.speeds.rung_seconds(method, 0)
    passes = max(0.0, seconds / MARGIN - start) / max(at.speeds.epoch_seconds(method), 1e-9)
    return min(at.training.passes(method, at.speeds.learning_pieces(method)), int(passes * 10) / 10)


def comparable(
    methods: list[Method], speeds: Speeds, counts: Counts, folds: int, far: Mapping[Method, LeftOut | None]
) -> tuple[list[Method], list[LeftOut]]:
    """The methods that this model can be trained by and these rows can compare, and why the others are left out.

    Args:
        far: Of the others, why they are out of reach and not tried; None for those that are tried.
    """
    kept: list[Method] = []
    left_out: list[LeftOut] = []
    for method in methods:
        name = catalog.name_of("method", method)
        if kept and not can_compare(counts, folds):
            hint = f"--method {name} takes it alone, and --set data.valid_fraction=0.4 holds more rows out"
            left_out.append(LeftOut(name, too_few(counts.learning_rows, counts.valid_rows), hint))
            continue
        if kept and (beyond := far.get(method)) is not None:
            left_out.append(beyond)
            continue
        try:
            speeds.epoch_seconds(method)
        except (ConfigError, MachineError) as error:  # such as top-layers for a model without a chain of blocks
            left_out.append(LeftOut(name, error.what.rstrip("."), error.fix))
            continue
        kept.append(method)
    return kept, left_out


def too_few(learning_rows: int, valid_rows: int) -> str:
    """Why no second rung is tried; where nothing is held out, as many rows are named as usually would be."""
    valid = valid_rows or round(usual_valid_share(learning_rows) * learning_rows)
    held = f"{valid} validation rows" if valid_rows else f"the {valid} that could be held out"
    return f"too few rows to choose by ({choosing_rows(valid)} of {held}; {FEWEST_CHOOSING} are needed)"


def share_of(deeper: list[Method], left: float, speeds: Speeds, training: Training) -> float:
    """What a rung may take of the seconds left: everything if no deeper one fits, else what that one can spare."""
    within_reach = [method for method in deeper if least_seconds(speeds, method, training) <= left]
    if not within_reach:
        return left
    last = within_reach[-1]
    reserved = MARGIN * speeds.rung_seconds(last, min(GOOD_EPOCHS, training.passes(last, speeds.learning_pieces(last))))
    return min(SHARE * left, left - reserved)


def least_seconds(speeds: Speeds, method: Method, training: Training) -> float:
    """What a rung takes with the fewest epochs that are worth it."""
    return MARGIN * speeds.rung_seconds(
        method, min(FEWEST_EPOCHS, training.passes(method, speeds.learning_pieces(method)))
    )
