"""Which rungs does the automatic ladder have, and how many epochs each? Fixed at plan time from rows and budget.

No clock decides anything during fit, and no rung is planned that could not be compared: the budget is turned into
epochs here, once, and a ladder with too few rows to choose by ends at its first rung.
"""

from dataclasses import replace

from whet import catalog
from whet.errors import ConfigError
from whet.forecast import FIXED_SECONDS, Speeds
from whet.methods.method import Method
from whet.plan import Auto, Rung, member_of
from whet.training.settings import Training

FEWEST_CHOOSING = 20
"""With fewer rows to choose by, deeper rungs cannot be told apart and are not tried."""
FEWEST_EPOCHS = 2
"""A rung that could not make so many passes is left out."""
GOOD_EPOCHS = 4
"""Passes that the deepest rung should have before a shallower one beneath it gets any time."""
SHARE = 0.35
"""Of what is left, at most, for a rung that a deeper one can still follow."""
MARGIN = 1.15
"""Forecasts are for a quiet machine; so much more is reserved when rungs are fixed."""


def fit_rungs(auto: Auto, speeds: Speeds, training: Training, *, pairs: bool, valid_rows: int) -> Auto:
    """Fix the rungs and their epochs from the budget; by default ten probes, and at least two minutes."""
    methods: list[Method] = [member_of("method", name) for name in auto.methods]
    methods = [method for method in methods if method.epochs or not pairs]
    left_out: list[str] = []
    for method in list(methods):
        try:
            speeds.epoch_seconds(method)
        except ConfigError as error:  # such as top-layers for a model without a chain of blocks
            methods.remove(method)
            left_out.append(f"{catalog.name_of('method', method)}: {str(error.args[0]).rstrip('.')}")
    if not methods:
        raise ConfigError(
            "No method of the ladder can judge pairs: a frozen encoder never learnt to compare them.",
            where="method.methods",
            fix="add top-layers or full",
        )
    if not can_choose(valid_rows):
        reason = too_few(valid_rows)
        left_out += [f"{name}: {reason}; --method {name} takes it alone" for name in map(name_of, methods[1:])]
        methods = methods[:1]
    seconds = auto.seconds or max(120.0, 10 * speeds.probe_seconds)
    left = seconds - FIXED_SECONDS - speeds.predict_seconds - speeds.features_seconds
    rungs: list[Rung] = []
    for position, method in enumerate(methods):
        if not method.epochs:
            left -= speeds.solve_seconds
            rungs.append(Rung(method=method, epochs=0, seconds=round(speeds.probe_seconds, 1)))
            continue
        share = share_of(methods[position + 1 :], left, speeds, training)
        wanted = training.epochs or method.epochs
        start = speeds.rung_seconds(method, 0)
        passes = max(0.0, share / MARGIN - start) / max(speeds.epoch_seconds(method), 1e-9)
        epochs = min(wanted, int(passes * 10) / 10)
        if epochs < min(FEWEST_EPOCHS, wanted) and rungs:
            least = least_seconds(speeds, method, training)
            left_out.append(
                f"{name_of(method)}: takes about {least:,.0f} s, and {max(share, 0):,.0f} s are left for it;"
                " --time gives more"
            )
            continue
        epochs = max(epochs, 1.0)
        took = speeds.rung_seconds(method, epochs)
        left -= took * MARGIN
        rungs.append(Rung(method=method, epochs=epochs, seconds=round(took, 1)))
    return replace(auto, seconds=round(seconds, 1), rungs=tuple(rungs), left_out=tuple(left_out))


def stopping_rows(valid_rows: int) -> int:
    """How many validation rows stop a fit: a third, because a loss settles on fewer rows than a score does."""
    return valid_rows if valid_rows < 2 else max(1, valid_rows // 3)


def choosing_rows(valid_rows: int) -> int:
    """How many validation rows rungs are compared on: those that stop nothing."""
    return valid_rows - stopping_rows(valid_rows)


def can_choose(valid_rows: int) -> bool:
    """Whether so many validation rows can tell two rungs apart."""
    return choosing_rows(valid_rows) >= FEWEST_CHOOSING


def too_few(valid_rows: int) -> str:
    """Why no second rung is tried."""
    return f"too few rows to choose between them ({choosing_rows(valid_rows)} held out, {FEWEST_CHOOSING} are needed)"


def share_of(deeper: list[Method], left: float, speeds: Speeds, training: Training) -> float:
    """What a rung may take of the seconds left: everything if no deeper one fits, else what that one can spare."""
    within_reach = [method for method in deeper if least_seconds(speeds, method, training) <= left]
    if not within_reach:
        return left
    last = within_reach[-1]
    reserved = MARGIN * speeds.rung_seconds(last, min(GOOD_EPOCHS, training.epochs or last.epochs))
    return min(SHARE * left, left - reserved)


def least_seconds(speeds: Speeds, method: Method, training: Training) -> float:
    """What a rung takes with the fewest epochs that are worth it."""
    return MARGIN * speeds.rung_seconds(method, min(FEWEST_EPOCHS, training.epochs or method.epochs))


def name_of(method: Method) -> str:
    """The method's name in the catalog."""
    return catalog.name_of("method", method)
