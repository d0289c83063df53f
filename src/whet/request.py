"""What was asked for: arguments of Python, or flags, as a partial plan and the objects that no plan file can hold."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

from whet import catalog
from whet.backbones.own_module import Module
from whet.checking import Objects
from whet.data.read_objects import parts_of
from whet.data.reader import refuse_idle_encoding
from whet.errors import ConfigError
from whet.evaluation.metric import FunctionMetric, Metric
from whet.plan import Auto, DataPlan, build, member_dict, member_of, plain, read_partial, set_value, trackers_of
from whet.rungs import VALID_SHARE, VALID_SHARE_OF_MANY
from whet.training.settings import FILLED, Training
from whet.training.views import USUAL_VIEWS
from whet.wanted import cache_folder, method_of, named_model

USUAL_SHARES = (0.0, VALID_SHARE, VALID_SHARE_OF_MANY)
"""Shares of validation rows that a plan has where the user named none."""
IN_MEMORY = "rows"
"""The source of rows that are given as objects."""

KINDS: dict[str, tuple[Any, str]] = {
    "text": (str | Sequence, "the name of a column, or several"),
    "model": (str | Path | Module, "a name, a folder, a hub id, or a whet.backbones.Module(net, ...)"),
    "target": (str | Sequence, "the name of a column, or several"),
    "group": (str, "the name of a column"),
    "time_column": (str, "the name of a column"),
    "encoding": (str, "the name of an encoding, such as 'latin-1'"),
    "max_length": (Integral, "a whole number of tokens"),
    "training": (Training, "a whet.Training"),
    "plan": (str | Path, "the path of a plan file"),
    "out": (str | Path, "the path of a run folder"),
    "began": (int | float, "what time.monotonic() gave"),
}
"""Of arguments that have no check of their own: what they may be, and that in words."""


def given_objects(
    rows: Any, test: Any = None, valid: Any = None, metric: Any = None, loss: Callable[[Any, Any], Any] | None = None
) -> Objects:
    """What is no file and no name."""
    return Objects(
        rows=None if isinstance(rows, str | Path) else rows,
        valid=None if isinstance(valid, str | Path) else valid,
        tests=objects_of(test),
        metric=own_metric(metric),
        loss=loss,
    )


def partial_plan(
    rows: Any,
    target: str | Sequence[str] | None,
    *,
    text: str | Sequence[str] | None = None,
    model: str | Path | Module | None = None,
    rehearse: tuple[str | Path, float] | None = None,
    method: Any = None,
    test: Any = None,
    valid: Any = None,
    seed: int | None = None,
    metric: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    training: Training | None = None,
    max_length: int | None = None,
    device: str | None = None,
    time: float | str | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    head: str | None = None,
    track: Any = (),
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """What was named, as a partial plan: the plan file first, then arguments, then ``settings``."""
    require_kinds(
        {"text": text, "target": target, "group": group, "time_column": time_column, "encoding": encoding,
         "max_length": max_length, "training": training, "plan": plan, "model": model}
    )  # fmt: skip
    before: dict[str, Any] = read_partial(Path(plan)) if plan is not None else {}
    wanted = deepcopy(before)
    sources = [wanted.get("data", {}).get("source") if rows is None else rows, *files_of(test), valid]
    refuse_idle_encoding(encoding, [one for one in sources if one is not None])
    own = own_metric(metric)
    data = {
        "source": None if rows is None else str(rows) if isinstance(rows, str | Path) else IN_MEMORY,
        "inputs": None if text is None else ([text] if isinstance(text, str) else list(text)),
        "target": None if target is None else ([target] if isinstance(target, str) else list(target)),
        "tests": [str(path) for path in files_of(test)] or None,
        "valid": str(valid) if isinstance(valid, str | Path) else None,
        "encoding": encoding,
        "group": group,
        "time": time_column,
        "max_length": max_length,
    }
    parts: dict[str, dict[str, Any]] = {
        "data": data,
        "model": {"name": str(model) if isinstance(model, str | Path) else None},
        "machinery": {"device": device},
        "evaluation": {"metric": metric if own is None else own.name},
    }
    for part, values in parts.items():
        named = {key: value for key, value in values.items() if value is not None}
        if named:
            wanted[part] = {**wanted.get(part, {}), **named}
    if isinstance(model, str | Path):
        wanted["model"] = {"name": str(model)}
    if rehearse is not None:
        wanted["earlier"] = rehearsed(rehearse)
    if method is not None and not isinstance(method, str | Auto) and not hasattr(method, "stages"):
        raise ConfigError(
            f"A method is a name or an object of whet.methods, not {method!r}.",
            where="method",
            fix=f"use one of {', '.join([*catalog.members('method'), 'auto'])}",
        )
    if method is not None:
        wanted["method"] = method if isinstance(method, str) else member_dict("method", method)
    if training is not None:
        wanted["training"] = plain(training)
    if loss is not None:
        wanted["loss"] = function_name(loss)
    if head is not None:
        given = wanted.get("backbone") or {}
        wanted["backbone"] = {**({"name": given} if isinstance(given, str) else given), "head": head}
    if seed is not None:
        wanted["seed"] = seed_of(seed)
    for setting in settings:
        set_value(wanted, setting)
    if isinstance(model, Module):
        wanted["model"] = {"name": str(model.written(cache_folder(wanted)))}
    if time is not None:
        wanted["method"] = with_budget(wanted.get("method"), seconds_of(time))
    if track:
        wanted["track"] = with_trackers(wanted.get("track"), track)
    if plan is not None:
        asked = {setting.partition("=")[0].strip() for setting in settings}
        asked |= {part for part, given in (("training", training), ("model", model)) if given is not None}
        resolve_again(wanted, before, asked)
    refuse_idle(wanted, before, tests=bool(test_sets(test)), valid=valid is not None)
    return wanted


def require_kinds(given: Mapping[str, Any]) -> None:
    """Arguments are of kinds that can be used, or None.

    Raises:
        ConfigError: the first one that is of another.
    """
    for name, value in given.items():
        kinds, words = KINDS[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise ConfigError(f"{name} cannot be {value!r}.", where=name, fix=f"use {words}")


def seed_of(given: Any) -> int:
    """A seed, also one of NumPy's whole numbers.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 0:
        raise ConfigError(f"The seed cannot be {given!r}.", where="seed", fix="use a whole number, 0 or more")
    return int(given)


def rehearsed(given: Any) -> dict[str, Any]:
    """A run and a share of its training rows, as the plan names them.

    Raises:
        ConfigError: it is not these two.
    """
    if isinstance(given, str | Path) or not isinstance(given, Sequence) or len(given) != 2:
        raise ConfigError(
            f"What to rehearse is a run and a share, not {given!r}.",
            where="rehearse",
            fix='write rehearse=("runs/first", 0.2)',
        )
    run, share = given
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(
            f"The share of rows to rehearse cannot be {share!r}.",
            where="--rehearse",
            fix="use a share of the earlier run's training rows above 0 and at most 1, such as 0.2",
        )
    return {"rehearse": str(run), "share": float(share)}


def resolve_again(wanted: dict[str, Any], before: Mapping[str, Any], asked: set[str]) -> None:
    """Take out of ``wanted``, in place, what a plan file resolved for other settings or other rows.

    Args:
        before: The plan file.
        asked: What was named beside it, as ``part.field``, or ``part`` for a whole one.
    """
    if plain(followed_by_none(wanted)) == plain(followed_by_none(before)):
        return
    wanted.pop("forecast", None)
    forget_model(wanted, before, asked)
    share = wanted.get("data", {}).get("valid_fraction")
    named = share not in USUAL_SHARES or is_asked("data.valid_fraction", asked)
    rows_differ = wanted["data"].get("source") != before["data"].get("source") if "data" in before else False
    method_differs = method_name(wanted) != method_name(before)
    if not named and (rows_differ or method_differs):
        wanted["data"].pop("valid_fraction")
    if "forecast" in before and before.get("training"):
        idle = filled_for_others(wanted, before, differs=rows_differ or method_differs)
        wanted["training"] = without("training", idle, wanted, before, asked)
    method = wanted.get("method")
    if isinstance(method, dict) and not is_asked("method.folds", asked):
        wanted["method"] = {key: value for key, value in method.items() if key != "folds"}
    if "forecast" in before and named_model(wanted.get("model") or {}) != named_model(before.get("model") or {}):
        # whom to beat follows from the model: that of an earlier run is among them
        wanted["evaluation"] = without("evaluation", {"baselines"}, wanted, before, asked)


def forget_model(wanted: dict[str, Any], before: Mapping[str, Any], asked: set[str]) -> None:
    """Take out of ``wanted``, in place, what a plan file says of its own model, where another one is named."""
    model, own = wanted.get("model") or {}, before.get("model") or {}
    if any(model.get(key) != own.get(key) for key in ("name", "folder")):
        wanted["model"] = without("model", set(model), wanted, before, asked)


def without(
    part: str, names: set[str], wanted: Mapping[str, Any], before: Mapping[str, Any], asked: set[str]
) -> dict[str, Any]:
    """A part of ``wanted`` without those of these fields that are still the plan file's, and not named beside it."""
    own = before.get(part) or {}
    return {
        key: value
        for key, value in (wanted.get(part) or {}).items()
        if key not in names or value != own.get(key) or is_asked(f"{part}.{key}", asked)
    }


def is_asked(name: str, asked: set[str]) -> bool:
    """Whether a field was named, by itself or with its whole part."""
    return name in asked or name.partition(".")[0] in asked


def filled_for_others(wanted: Mapping[str, Any], before: Mapping[str, Any], *, differs: bool) -> set[str]:
    """Training settings that a resolved plan was given for another method, optimizer or other rows.

    Args:
        differs: Whether the method or the rows do.
    """
    if differs and takes_no_steps(wanted.get("method")):
        return {*FILLED, *filled_in(before)}
    now, then = (plan["training"].get("optimizer", Training().optimizer) for plan in (wanted, before))
    first, second = (member_of("optimizer", one) if isinstance(one, str | Mapping) else one for one in (then, now))
    found = filled_in(before) if differs or first != second else set()
    if wanted["training"].get("least_steps") != before["training"].get("least_steps"):
        found |= filled_in(before) & {"epochs"}
    return found | ({"learning_rate"} if type(first) is not type(second) else set())  # a rate in another unit


def filled_in(before: Mapping[str, Any]) -> set[str]:
    """Training settings that planning has filled in, as far as a resolved plan tells them from what a user named.

    A value that planning would not have given is the user's own. Epochs that are no fewer than the method's may be
    either's.
    """
    training, method = build(Training, before["training"], "training"), method_of(before.get("method"))
    found = {"schedule"} if training.schedule == training.optimizer.schedule else set()
    if before["forecast"].get("fitting"):
        found |= {"micro_batch_size", "gradient_checkpointing"}
    if before["forecast"].get("augmenting"):
        found |= {"augment"} | ({"views"} if training.views in (1, USUAL_VIEWS) else set())
    if isinstance(method, Auto) or not method.epochs:
        return found
    usual = replace(training, learning_rate=None).rate(method.learning_rate)
    found |= {"learning_rate"} if training.learning_rate == usual else set()
    return found | ({"epochs"} if training.epochs is None or training.epochs >= method.epochs else set())


def refuse_idle(wanted: Mapping[str, Any], before: Mapping[str, Any], *, tests: bool, valid: bool) -> None:
    """Refuse what was named beside something else that leaves it nothing to do.

    Args:
        before: The plan file, if there is one; a resolved one holds every field, so what it holds is not taken for
            named.
        tests: Whether test rows are given as an argument; valid: whether validation rows are.

    Raises:
        ConfigError: with what leaves it nothing to do.
    """
    resolved = before if "forecast" in before else {}
    named = {
        f"{part}.{name}": value
        for part in ("data", "training", "earlier")
        for name, value in without(part, set(wanted.get(part) or {}), wanted, resolved, set()).items()
        if value not in (None, "")
    }
    data = wanted.get("data") or {}
    for given, option, name, usual in (
        (tests or data.get("tests"), "--test", "data.test_fraction", DataPlan.test_fraction),
        (valid or data.get("valid"), "--valid", "data.valid_fraction", DataPlan.valid_fraction),
    ):
        if given and named.get(name, 0) not in (0, usual):
            what, fix = f"The rows of {option} are given, so {name} has none to draw.", f"leave it out, or {option}"
            raise ConfigError(what, where=name, fix=fix)
    if "training.least_steps" in named and (wanted.get("training") or {}).get("epochs") is not None:
        raise ConfigError(
            "training.least_steps gives few rows more epochs, and training.epochs names how many there are.",
            where="training.least_steps",
            fix="leave one of them out",
        )
    found = [
        name for name in named if name.startswith("earlier.") and name not in ("earlier.rehearse", "earlier.share")
    ]
    if found:
        raise ConfigError(
            f"{found[0]} is found out, and cannot be set.",
            where=found[0],
            fix="leave it out; --model RUN goes on from a run, and --rehearse RUN 0.2 mixes its rows in",
        )


def takes_no_steps(method: Any) -> bool:
    """Whether a method, as named, only solves a head."""
    named = method_of(method)
    return not isinstance(named, Auto) and not named.epochs


def followed_by_none(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A partial plan without its trackers, which change nothing of a run."""
    return {key: value for key, value in wanted.items() if key != "track"}


def with_trackers(before: Any, named: Any) -> list[dict[str, Any]]:
    """The trackers of a partial plan and those that are named beside it; the later of one name counts.

    Args:
        named: Names, several in one text by commas, ``name:field=value`` to set a field; or objects of
            ``whet.trackers``.

    Raises:
        ConfigError: one of them is no tracker.
    """
    given = [named] if isinstance(named, str) or not isinstance(named, Sequence) else list(named)
    words = [word for one in given for word in (one.split(",") if isinstance(one, str) else [one])]
    found = {catalog.name_of("tracker", one): one for one in [*trackers_of(before), *map(tracker_named, words)]}
    return [member_dict("tracker", tracker) for tracker in found.values()]


def tracker_named(word: Any) -> Any:
    """A tracker from ``name``, ``name:field=value`` (more fields by more colons), or an object as it is."""
    import yaml

    if not isinstance(word, str):
        if hasattr(word, "open") and hasattr(word, "require"):
            return word
        raise ConfigError(
            f"A tracker is a name or an object of whet.trackers, not {word!r}.",
            where="track",
            fix="hand a function that reads events to observers=",
        )
    name, *fields = (part.strip() for part in word.split(":"))
    settings = dict(field.partition("=")[::2] for field in fields)
    return member_of("tracker", {"name": name} | {key: yaml.safe_load(value) for key, value in settings.items()})


def method_name(wanted: Mapping[str, Any]) -> str:
    """The method as named, ``auto`` where none is."""
    method = wanted.get("method") or "auto"
    return str(method.get("name", "auto")) if isinstance(method, Mapping) else str(method)


def with_budget(method: Any, seconds: float) -> dict[str, Any]:
    """``auto`` with a budget; another method has steps, not time.

    Raises:
        ConfigError: a single method was named.
    """
    name = method_name({"method": method})
    if name != "auto":
        raise ConfigError(
            f"--time is the budget of the method auto; {name!r} takes the steps it takes.",
            where="time",
            fix="leave --method out"
            + (", or limit the steps with --set training.epochs=2" if method_of(method).epochs else ", or --time"),
        )
    return {**(method if isinstance(method, Mapping) else {}), "name": "auto", "seconds": seconds}


def require_steps(wanted: Mapping[str, Any]) -> None:
    """Only one method that takes gradient steps has a learning rate to find.

    Raises:
        ConfigError: none is named, or it takes no steps.
    """
    name = method_name(wanted)
    if name == "auto":
        raise ConfigError(
            "auto climbs several methods, and each has a learning rate of its own.",
            where="method",
            fix="name one, such as --method full or --method lora",
        )
    if not method_of(wanted["method"]).epochs:
        raise ConfigError(
            f"The method {name!r} has no learning rate: its head is solved, without gradient steps.",
            where="method",
            fix="name one that takes steps, such as --method full or --method lora",
        )


def seconds_of(text: float | str) -> float:
    """ "90", "90s", "5m" or "1.5h" in seconds.

    Raises:
        ConfigError: it is no time, or none at all.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    stripped = str(text).strip().lower()
    factor = units.get(stripped[-1:])
    try:
        found = float(stripped[:-1] if factor else stripped) * (factor or 1.0)
    except ValueError:
        found = -1.0
    if not 0 < found < 1e9:
        what = f"A budget of {text!r} leaves no time." if found == 0 else f"{text!r} is not a time."
        raise ConfigError(what, where="--time", fix="write for example 90s, 5m or 1h")
    return found


def own_metric(metric: Any) -> Metric | None:
    """A user's function as a metric; a metric object as it is; None for a name."""
    if metric is None or isinstance(metric, str):
        return None
    if hasattr(metric, "per_row"):
        found: Metric = metric
        return found
    return FunctionMetric(metric, getattr(metric, "__name__", "own metric"))


def function_name(function: Any) -> str:
    """How a function is called where it was written, or the class of what is called like one."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def refuse_lost_loss(wanted: Mapping[str, Any], loss: Callable[[Any, Any], Any] | None) -> None:
    """A plan of a run with a loss of its own needs that function again: no file holds it.

    Raises:
        ConfigError: none is given.
    """
    if loss is None and wanted.get("loss") is not None:
        raise ConfigError(
            f"The plan is of a run with a loss of its own, {wanted['loss']!r}, and no plan file holds a function.",
            where="loss",
            fix="give the function as loss=, or learn by the task's loss with --set loss=null",
        )


def test_sets(test: Any) -> list[Any] | Mapping[str, Any]:
    """Test sets as they were given: several by name, or a list; one table alone is a list of one."""
    if test is None:
        return []
    if isinstance(test, Mapping):
        named = parts_of(test) is not None or all(isinstance(one, str | Path) for one in test.values())
        return test if named else [test]
    if isinstance(test, list | tuple) and not (test and isinstance(test[0], Mapping)):
        return list(test)
    return [test]


def files_of(test: Any) -> list[str | Path]:
    """The test sets that are files."""
    sets = test_sets(test)
    several = list(sets.values()) if isinstance(sets, Mapping) else sets
    return [one for one in several if isinstance(one, str | Path)]


def objects_of(test: Any) -> list[Any] | Mapping[str, Any] | None:
    """All test sets, where a plan file could not hold them: some are objects, or have names; None otherwise."""
    sets = test_sets(test)
    if isinstance(sets, Mapping):
        return sets
    return None if all(isinstance(one, str | Path) for one in sets) else sets


def run_name(wanted: Mapping[str, Any]) -> str:
    """The name of a run: what it learns from and what it predicts."""
    data = wanted.get("data", {})
    source = Path(str(data.get("source") or "rows")).name.split(".")[0] or "rows"
    target = data.get("target") or ([] if data.get("source") else ["target"])
    first = target[:1] if isinstance(target, list | tuple) else [target]
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in "-".join([source, *first]))[:80]
