"""Do compiled steps pay back within the run? Tried at plan time, where steps take long enough to pay for the trial."""

from dataclasses import replace
from typing import Any

from whet.errors import ConfigError, MachineError
from whet.forecast import Speeds, descents, forecast_of
from whet.training.settings import Training

TRIAL_SECONDS = 60.0
"""About what a trial takes: blocks compiled forwards and backwards, and some steps."""
MOST_SAVED = 0.5
"""Of the seconds of steps, more than compiling can be hoped to save."""
TRIAL_SHARE = 0.1
"""Of what could be saved at the very most, what a trial may take."""


def with_compiling(speeds: Speeds, method: Any, training: Training, wanted: str) -> tuple[Speeds, str]:
    """The speeds with ``machinery.compile`` decided, and in words what a trial showed; none where none was worth it.

    Args:
        speeds: With compiling off, unless it is wanted.
        wanted: What was asked for: "on", "off" or "auto".

    Raises:
        ConfigError: it is wanted for a method that takes no gradient steps.
    """
    steps = descents(method, training)
    if wanted == "on" and not steps:
        raise ConfigError(
            "Nothing takes gradient steps here, so there is nothing to compile.",
            where="machinery.compile",
            fix="leave it out, or use --method top-layers, full or auto with more time",
        )
    if wanted != "auto":
        return speeds, ""
    least = TRIAL_SECONDS / (MOST_SAVED * TRIAL_SHARE)
    if sum(speeds.steps_seconds(one, epochs) for one, epochs in steps) < least:
        return speeds, ""
    speeds = replace(speeds, spent=0.0)
    compiled = speeds.under(speeds.training, compile="on")
    before = forecast_of(speeds, method, training).seconds
    try:
        after = forecast_of(compiled, method, training).seconds
    except (ConfigError, MachineError) as error:
        return speeds, f"not compiled: {error.what.rstrip('.')}"
    told = f"{before:,.0f} s without compiled blocks from the fit on, {after:,.0f} s with them"
    return (compiled, f"{told}: compiled") if after < before else (speeds, f"{told}: not compiled")
