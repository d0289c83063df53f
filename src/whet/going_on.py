"""May this run be resumed? Only as what it was: the same request, plan and versions.

What was asked for lies beside the checkpoints, with the plan that came of it and the versions that made it. Rows and
weights are compared when the plan is reopened (``resolve.reopen``), by their hashes.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from whet.checking import Objects
from whet.errors import RunError
from whet.evaluation.metric import FunctionMetric
from whet.folder import PLAN, WORK, write_json
from whet.plan import Plan, plain
from whet.request import followed_by_none, function_name

REQUEST = "request.json"
DECIDING = ("whet", "torch", "transformers", "numpy", "scikit-learn")
"""Packages whose versions decide the bytes of a run, beside those of the kind of input."""


def write_request(folder: Path, plan: Plan, wanted: Mapping[str, Any], given: Objects) -> None:
    """Keep what a resumed run is held to."""
    content = {"wanted": plain(with_function(wanted, given)), "plan": plan.as_dict(), "versions": versions(plan)}
    write_json(folder / WORK / REQUEST, content)


def refuse_changed(folder: Path, plan: Plan, wanted: Mapping[str, Any], given: Objects) -> None:
    """A resumed run is what the first one was.

    Args:
        plan: As it lies in the folder.
        wanted: What is asked for now, as a plan can hold it; given: what it cannot.

    Raises:
        RunError: naming the first thing that differs.
    """
    path = folder / WORK / REQUEST
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        parts = before["wanted"], before["plan"], before["versions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            "What this run was started with is missing, damaged, or of another version of whet.",
            where=str(path),
            fix="start a new run with another --out",
        ) from error
    made_by, running = parts[2], versions(plan)
    for name in running:
        if made_by.get(name) != running[name]:
            raise RunError(
                f"The run was started with {name} {made_by.get(name)}, and this is {name} {running[name]}.",
                where=str(folder),
                fix=f"install {name}=={made_by.get(name)} to go on, or start a new run with another --out",
            )
    if (found := difference(parts[0], with_function(wanted, given))) is not None:
        raise RunError(
            "The run was started with another {}: {}, now {}.".format(*found),
            where=str(folder),
            fix="give the same settings with --resume, or start a new run with another --out",
        )
    if (found := difference(parts[1], plan.as_dict())) is not None:
        raise RunError(
            "The plan of the run was changed after it began, in {}: {}, now {}.".format(*found),
            where=str(folder / PLAN),
            fix="put the value back, or start a new run with --plan and another --out",
        )


def with_function(wanted: Mapping[str, Any], given: Objects) -> dict[str, Any]:
    """What is asked for, with the metric function where one is given: by its name alone it may be one of whet's own."""
    own = given.metric.function if isinstance(given.metric, FunctionMetric) else given.metric
    return {**wanted, **({} if own is None else {"metric function": function_name(own)})}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first setting that differs, as it was and as it is; None where all are equal, but for who follows the run."""
    first, second = flat(followed_by_none(before)), flat(json.loads(json.dumps(plain(followed_by_none(now)))))
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            was, is_now = (repr(found[key]) if key in found else "not given" for found in (first, second))
            return key, was, is_now
    return None


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        found |= inner
    return found


def versions(plan: Plan) -> dict[str, str]:
    """Of the packages that decide."""
    return {name: version(name) for name in (*DECIDING, *plan.modality.packages)}
