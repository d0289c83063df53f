"""Which rungs does the automatic ladder have, and how many epochs each? Fixed at plan time from rows and budget.

No clock decides anything during fit, and no rung is planned that could not be compared: the budget is turned into
epochs here, once. With few rows to choose by, rungs are cross-fitted; with too few even for that, or no time, a ladder
ends at its first rung.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from whet import catalog
from whet.errors import ConfigError, MachineError
from whet.forecast import FIXED_SECONDS, Speeds
from whet.methods.method import Method
from whet.plan import Auto, LeftOut, Rung, member_of
from whet.training.settings import Training

VALID_SHARE, VALID_SHARE_OF_MANY, MANY_ROWS = 0.15, 0.1, 4000
"""Of the rows to learn from, held out to stop and to choose; the second from so many rows on."""
USUAL = ("probe", "top-layers", "full")
"""The ladder where nobody names another and no count speaks against it."""
FEW_ROWS = 64
"""Up to so many rows a class, contrastive tuning takes the place of the top blocks: in trials at 64 rows a class it
gained 7, 3, 18 and 7 points of accuracy over the probe (sst2, emotion, trec, financial_phrasebank), and the top blocks
nothing (sst2)."""
MANY_PARAMETERS = 300_000_000
"""Of larger models LoRA takes the place of every weight, whose masters, moments and best copies take 32 bytes each."""
FEWEST_CHOOSING = 20
"""With fewer rows to choose by, deeper rungs cannot be told apart and are not tried."""
FEW_CHOOSING, PARTS = 100, 3
"""With fewer rows to choose by, rungs are cross-fitted in so many parts if the budget covers it: every row to learn
from is then one to choose by, and a rung takes as many times longer as there are parts, the last fit included."""
FEWEST_EPOCHS = 2
"""A rung that could not make so many passes is left out."""
GOOD_EPOCHS = 4
"""Passes that the deepest rung should have before a shallower one beneath it gets any time."""
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
        learning_rows: Rows to train on and to validate by; valid_rows: the latter alone.
    """

    pairs: bool
    classes: int
    learning_rows: int
    valid_rows: int


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
    """Whether a ladder has a use for validation rows: its first rung takes steps, or a second one can be compared."""
    methods = climbable(auto, pairs=pairs)
    compared = can_choose(valid_rows) or (auto.folds != 0 and learning_rows >= FEWEST_CHOOSING)
    return bool(methods[0].epochs) or (len(methods) > 1 and compared)


def worth_measuring(auto: Auto, speeds: Speeds, training: Training, counts: Counts) -> list[Method]:
    """The ladder's methods that may become rungs; where nothing can be compared the first one alone."""
    chosen, _ = named(auto, speeds, training, counts)
    first, *others = climbable(chosen, pairs=counts.pairs)
    if not any(can_compare(counts, folds) for folds in ways(auto, counts)):
        return [first]
    left, fits = seconds_left(auto, speeds)[1], max(1, ways(auto, counts)[-1])
    return [first, *(one for one in others if out_of_reach(one, speeds, training, left, fits) is None)]


def seconds_left(auto: Auto, speeds: Speeds) -> tuple[float, float]:
    """The budget, by default ten probes and at least two minutes, and what of it is left for rungs."""
    seconds = auto.seconds or max(120.0, 10 * speeds.probe_seconds)
    return seconds, seconds - FIXED_SECONDS - speeds.predict_seconds - speeds.features_seconds


def out_of_reach(method: Method, speeds: Speeds, training: Training, left: float, fits: int) -> LeftOut | None:
    """Why a method is not even tried: the seconds left do not cover what it takes at the very least."""
    if not method.epochs:
        return None
    passes = min(FEWEST_EPOCHS, training.passes(method.epochs, speeds.rows))
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
    methods: list[Method] = [member_of("method", name) for name in auto.methods or USUAL]
    methods = [method for method in methods if method.epochs or not pairs]
    if not methods:
        raise ConfigError(
            "No method of the ladder can judge pairs: a frozen encoder never learnt to compare them.",
            where="method.methods",
            fix="add top-layers or full",
        )
    return methods


def usual_methods(*, classes: int, learning_rows: int, parameters: int) -> tuple[tuple[str, ...], dict[str, LeftOut]]:
    """The ladder for so many rows and weights, and by the name of each newcomer what it took the place of.

    Args:
        classes: That features can be contrasted by; 0 where they cannot.
    """
    names, replaced = list(USUAL), {}
    few = f"contrastive takes its place with at most {FEW_ROWS} rows a class"
    large = f"lora takes its place above {MANY_PARAMETERS // 10**6} million parameters"
    places = [("top-layers", "contrastive", few, classes > 0 and learning_rows <= FEW_ROWS * classes)]
    places += [("full", "lora", large, parameters > MANY_PARAMETERS)]
    for old, new, why, holds in places:
        if holds:
            names[names.index(old)] = new
            replaced[new] = LeftOut(old, why, f"--set method.methods=[{','.join(USUAL)}] climbs it")
    return tuple(names), replaced


def named(auto: Auto, speeds: Speeds, training: Training, counts: Counts) -> tuple[Auto, dict[str, LeftOut]]:
    """The ladder with its methods named, and by the name of each newcomer what it took the place of."""
    if auto.methods:
        return auto, {}
    classes = 0 if counts.pairs or training.micro_batch_size else counts.classes
    names, replaced = usual_methods(classes=classes, learning_rows=counts.learning_rows, parameters=speeds.parameters)
    return replace(auto, methods=names), replaced


def fit_rungs(auto: Auto, speeds: Speeds, training: Training, counts: Counts) -> Auto:
    """Fix the rungs and their epochs from the budget; by default ten probes, and at least two minutes."""
    chosen, replaced = named(auto, speeds, training, counts)
    seconds, left = seconds_left(auto, speeds)
    for folds in ways(auto, counts):
        reach = {
            method: out_of_reach(method, speeds, training, left, max(1, folds))
            for method in climbable(chosen, pairs=counts.pairs)[1:]
        }
        methods, cannot = comparable(climbable(chosen, pairs=counts.pairs), speeds, counts, folds, reach)
        rungs, unaffordable = within(left, methods, speeds, training, max(1, folds))
        if len(rungs) > 1:
            break
    left_out = [*cannot, *unaffordable]
    climbed = {catalog.name_of("method", rung.method) for rung in rungs}
    left_out += [one for newcomer, one in replaced.items() if newcomer in climbed]
    folds = folds if len(rungs) > 1 else 0
    return replace(auto, seconds=round(seconds, 1), folds=folds, rungs=rungs, left_out=tuple(left_out))


def ways(auto: Auto, counts: Counts) -> list[int]:
    """In how many parts rungs may be compared, 0 as held out; the first way that the budget covers is taken."""
    if auto.folds is not None:
        return [auto.folds]
    few = choosing_rows(counts.valid_rows) < FEW_CHOOSING and counts.learning_rows >= FEWEST_CHOOSING
    return [PARTS, 0] if few else [0]


def can_compare(counts: Counts, folds: int) -> bool:
    """Whether rungs can be told apart in so many parts."""
    return bool(folds) or can_choose(counts.valid_rows)


def within(
    left: float, methods: list[Method], speeds: Speeds, training: Training, fits: int
) -> tuple[tuple[Rung, ...], list[LeftOut]]:
    """The rungs that ``left`` seconds cover, each fitted ``fits`` times, and what they do not cover."""
    rungs: list[Rung] = []
    left_out: list[LeftOut] = []
    for position, method in enumerate(methods):
        if not method.epochs:
            left -= fits * speeds.solve_seconds
            rungs.append(Rung(method=method, epochs=0, seconds=round(speeds.probe_seconds, 1)))
            continue
        share = share_of(methods[position + 1 :], left / fits, speeds, training)
        wanted = training.passes(method.epochs, speeds.rows)
        start = speeds.rung_seconds(method, 0)
        passes = max(0.0, share / MARGIN - start) / max(speeds.epoch_seconds(method), 1e-9)
        epochs = min(wanted, int(passes * 10) / 10)
        if epochs < min(FEWEST_EPOCHS, wanted) and rungs:
            least = fits * least_seconds(speeds, method, training)
            why = f"takes about {least:,.0f} s, and {max(fits * share, 0):,.0f} s are left for it"
            left_out.append(LeftOut(catalog.name_of("method", method), why, "--time gives more"))
            continue
        epochs = max(epochs, 1.0)
        took = fits * speeds.rung_seconds(method, epochs)
        left -= took * MARGIN
        rungs.append(Rung(method=method, epochs=epochs, seconds=round(took, 1)))
    return tuple(rungs), left_out


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
    reserved = MARGIN * speeds.rung_seconds(last, min(GOOD_EPOCHS, training.passes(last.epochs, speeds.rows)))
    return min(SHARE * left, left - reserved)


def least_seconds(speeds: Speeds, method: Method, training: Training) -> float:
    """What a rung takes with the fewest epochs that are worth it."""
    return MARGIN * speeds.rung_seconds(method, min(FEWEST_EPOCHS, training.passes(method.epochs, speeds.rows)))
