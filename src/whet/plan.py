"""One Plan: every choice of a run, resolved, and the one YAML file it is read from and written to.

The same Plan gives the same bytes. Names stand for members of the catalog (``method: {name: top-layers, count: 2}``);
an import path never appears. A partial plan, as a user writes it, has the same keys with some left out.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from whet import catalog
from whet.atomic import written
from whet.errors import ConfigError, closest
from whet.training.machinery import Machinery
from whet.training.settings import Training

FORMAT = 1
MEMBERS = {"modality": "modality", "task": "task", "backbone": "backbone", "method": "method"}
"""Parts of a plan that are members, and their kind in the catalog."""
OVER = 1.05
"""Of a ladder's budget, above which a forecast is said to exceed it."""
ALWAYS = ("csv",)
"""Trackers of a run that names none; those that are named come to these."""
TYPES = {int: "a whole number", float: "a number", str: "a text, in quotes if need be", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """Which rows, which columns, how they are divided.

    Args:
        source: A path, or "rows" for objects in memory.
        fingerprint: Hash of what was read; a resumed run refuses other rows.
        inputs: One column, or two for pairs. target: one column, or several of 0 and 1.
        tests: Test files; empty draws ``test_fraction``. valid: a validation file.
        valid_fraction: Share of the rest held out to stop and to choose; 0 where that would serve nothing.
        max_length: Pieces (tokens) a window; None takes the model's.
    """

    source: str
    inputs: tuple[str, ...]
    target: tuple[str, ...]
    fingerprint: str = ""
    tests: tuple[str, ...] = ()
    valid: str | None = None
    encoding: str | None = None
    group: str | None = None
    time: str | None = None
    max_length: int | None = None
    test_fraction: float = 0.2
    valid_fraction: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """Which pre-trained weights, by name and by hash."""

    name: str
    folder: str
    origin: str = ""
    revision: str | None = None
    sha256: str = ""
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class EarlierPlan:
    """The earlier run that this one goes on from, and the one whose training rows are mixed in; often the same.

    Args:
        run: Folder of the run that ``model.folder`` belongs to; None where the model is no run's.
        sha256: Of what its model is said to answer; ``model.sha256`` covers its weights.
        fingerprint: Of the rows it was made from; empty where they are gone, and nothing is judged on its test rows.
        rehearse: Folder of the run whose training rows are mixed in; None mixes nothing.
        share: Of those rows, class by class, above 0 and at most 1.
        rehearsed: Fingerprint of the rows of that run.
        words: What the two bring, for people.
    """

    run: str | None = None
    sha256: str = ""
    fingerprint: str = ""
    rehearse: str | None = None
    share: float = 0.0
    rehearsed: str = ""
    words: str = ""

    def __post_init__(self) -> None:
        if self.rehearse is None and self.share:
            raise ConfigError("A share to rehearse needs a run.", where="earlier.share", fix="write --rehearse RUN 0.2")
        if self.rehearse is not None and not 0 < self.share <= 1:
            raise ConfigError(
                f"The share of rows to rehearse cannot be {self.share:g}.",
                where="--rehearse",
                fix="use a share of the earlier run's training rows above 0 and at most 1, such as 0.2",
            )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the automatic ladder: a method with its own budget of epochs, and the forecast.

    Args:
        trusted: Whether it is kept unless the rows to choose by show that it is worse; see ``methods.method.Place``.
    """

    method: Any
    epochs: float
    seconds: float
    trusted: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A method that the ladder does not climb: why, and what the user can do about it."""

    name: str
    why: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Auto:
    """The automatic ladder: rungs from cheap to dear, as many as the budget covers and the rows can compare.

    Args:
        seconds: The budget from which the rungs were fixed; no clock is read during fit.
        methods: What is climbed, from cheap to dear; pairs begin above those that only solve a head. Where none is
            named, ``rungs.usual_methods`` names them while planning, from counts alone.
        folds: Parts in which rungs are cross-fitted to be compared; 0 compares them on validation rows, and None lets
            the plan choose: parts where few rows could be held out and the budget covers them.
        rungs: Filled when the plan is resolved.
        left_out: Methods that it does not climb, with the reason.
    """

    seconds: float
    methods: tuple[str, ...] = ()
    folds: int | None = None
    rungs: tuple[Rung, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        for name in self.methods:
            catalog.find("method", name)
        if self.folds is not None and (self.folds < 0 or self.folds == 1):
            raise ConfigError(
                f"folds cannot be {self.folds}.", where="method.folds", fix="use 0 for none, or 2 and more, such as 3"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What decides, what is shown beside it, and whom the model must beat."""

    metric: str
    also: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the run will take.

    Args:
        seconds: At most, if nothing ends a stage early; least_seconds: if the ladder ends as soon as it may.
        memory_bytes: The most that the process holds at once.
        disk_bytes: All that is written; run_disk_bytes: what of it lies in the run folder, the rest in the cache.
        parts: Seconds of each part: "before" the fit, until the plan stands; "after" it, judging and packaging; "steps"
            are what an early end shortens; a ladder has "start of rung 1" and so on.
        replay_gain: How many times faster replay makes the steps at most; 0 where it is not used.
        fitting: How a batch was made to fit memory, in words; nothing where it fitted as it was.
        augmenting: Which augmentations the rows called safe, in words; nothing where they were not asked.
        compiling: What a trial of compiled blocks showed, in words; nothing where none was worth it.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    run_disk_bytes: int = 0
    least_seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    replay_gain: float = 0.0
    fitting: str = ""
    compiling: str = ""
    augmenting: str = ""

    def with_before(self, seconds: float) -> "Forecast":
        """The same for a run that took so many seconds before it fits: with a whole plan there is less to find out."""
        more = seconds - self.parts.get("before", 0.0)
        return replace(
            self,
            seconds=round(self.seconds + more, 1),
            least_seconds=round(self.least_seconds + more, 1) if self.least_seconds else 0.0,
            parts={**self.parts, "before": round(seconds, 1)},
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides a run.

    Args:
        loss: The name of a loss of the user's own, which no file holds: who reruns the plan gives the function again.
    """

    data: DataPlan
    modality: Any
    task: Any
    model: ModelPlan
    backbone: Any
    method: Any
    training: Training
    evaluation: Evaluation
    machinery: Machinery
    forecast: Forecast
    track: tuple[Any, ...] = ()
    earlier: EarlierPlan = EarlierPlan()
    cache: str | None = None
    loss: str | None = None
    seed: int = 0
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Plain values, members by name; what the YAML file holds."""
        found = {entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}
        for part, kind in MEMBERS.items():
            found[part] = member_dict(kind, getattr(self, part))
        found["track"] = [member_dict("tracker", tracker) for tracker in self.track]
        return found

    def brief(self) -> dict[str, str]:
        """Each choice in a few words, for the terminal."""
        data, machinery = self.data, self.machinery
        drawn = [f"split by {' and '.join(by)}"] if (by := [name for name in (data.group, data.time) if name]) else []
        drawn += [f"{data.test_fraction:.0%} test"] if not data.tests else []
        drawn += [f"{data.valid_fraction:.0%} of the rest {self._held_for()}"] if data.valid_fraction else []
        precision = " and ".join(dict.fromkeys((machinery.precision, machinery.training_precision)))
        rivals = [catalog.title("learner", name) for name in self.evaluation.baselines]
        licence = f", {self.model.licence}" if self.model.licence else ""
        names = tuple(catalog.name_of("tracker", tracker) for tracker in self.track)
        tracked = {} if names == ALWAYS else {"tracked by": ", ".join(names) or "nothing"}
        told = {"memory": self.forecast.fitting, "compiling": self.forecast.compiling}
        return {
            "columns": f"{' + '.join(data.inputs)} → {', '.join(data.target)}" + "".join(f" · {one}" for one in drawn),
            "model": f"{self.model.name} ({self.model.origin}{licence})",
            **({"earlier": self.earlier.words} if self.earlier.words else {}),
            "method": self._method_words() + self._optimizer_words(),
            "judged by": f"{catalog.title('metric', self.evaluation.metric)} against {', '.join(rivals) or 'nothing'}",
            "machine": f"{machinery.device}, {machinery.threads} threads, {precision}"
            + (", compiled blocks" if machinery.compile == "on" else ""),
            **{name: words for name, words in told.items() if words},
            **tracked,
        }

    def _held_for(self) -> str:
        """What validation rows do."""
        if isinstance(self.method, Auto):
            return "to stop and choose"
        if not self.method.epochs:
            return "learnt from too"
        return "to stop by" if self.method.stops else "to calibrate by where they are many"

    def _method_words(self) -> str:
        if not isinstance(self.method, Auto):
            name = catalog.name_of("method", self.method)
            rate = self.training.learning_rate
            steps = "" if rate is None else f", up to {self.training.epochs:g} epochs at {rate:g}"
            times = self.forecast.replay_gain
            gain = f"; at most {times:.1f} times faster by replay" if times else ""
            return name + steps + gain
        rungs = [
            catalog.name_of("method", rung.method)
            + (f", {rung.epochs:g} epochs" if rung.epochs else "")
            + f" ({rung.seconds:,.0f} s)"
            for rung in self.method.rungs
        ]
        reasons: dict[str, list[str]] = {}
        for one in self.method.left_out:
            reasons.setdefault(one.why, []).append(one.name)
        left_out = "".join(f"; without {' and '.join(names)}: {why}" for why, names in reasons.items())
        parts = f", cross-fitted in {self.method.folds} parts" if self.method.folds and len(rungs) > 1 else ""
        more = self.forecast.seconds > OVER * self.method.seconds and len(rungs) == 1
        late = ", which its first rung exceeds" if more else ""
        return f"auto in {self.method.seconds:,.0f} s{late}: {' → '.join(rungs)}{parts}{left_out}"

    def _optimizer_words(self) -> str:
        """The optimizer, where it is not the default."""
        usual, optimizer = Training().optimizer, self.training.optimizer
        return "" if optimizer == usual else f"; {catalog.title('optimizer', catalog.name_of('optimizer', optimizer))}"

    def write(self, path: Path) -> None:
        """Write the YAML file, whole or not at all."""
        import yaml

        with written(path) as beside, beside.open("w", encoding="utf-8") as file:
            yaml.safe_dump(self.as_dict(), file, sort_keys=False, allow_unicode=True)

    @staticmethod
    def read(path: Path) -> "Plan":
        """A resolved plan from its file."""
        return plan_of(read_partial(path))


def read_partial(path: Path) -> dict[str, Any]:
    """A plan file's content with known keys only; parts may be missing.

    Raises:
        ConfigError: no such file, not YAML, or an unknown key.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The plan file cannot be read: {error.strerror}.", where=str(path), fix="check the path after --plan"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The plan file is not YAML: {str(error).splitlines()[0]}",
            where=str(path),
            fix="start from the file that `whet plan` writes",
        ) from error
    if not isinstance(found, dict):
        what = (
            "The plan file is empty." if found is None else "This is no plan file: it holds no 'name: value' settings."
        )
        raise ConfigError(
            what, where=str(path), fix="give the file that `whet plan` writes; rows are named without --plan"
        )
    check_keys(found, str(path))
    return found


def check_keys(partial: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys at the top and in fixed parts, with the closest known one, and values of another type."""
    hints = get_type_hints(Plan)
    for key, value in partial.items():
        if key not in hints:
            raise unknown_key(str(key), list(hints), where)
        if not is_dataclass(hints[key]):
            build(hints[key], value, key)
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} needs fields, got {value!r}.", where=where, fix="`whet plan` prints every field")
        inside = get_type_hints(hints[key])
        for inner, content in value.items():
            if inner not in inside:
                raise unknown_key(str(inner), list(inside), f"{where}, {key}")
            build(inside[inner], content, f"{key}.{inner}")
    if partial.get("format", FORMAT) != FORMAT:
        raise ConfigError(
            f"The plan has format {partial['format']}; this whet reads format {FORMAT}.",
            where=where,
            fix="use the whet that wrote it, or resolve a new plan with `whet plan`",
        )
    if (partial.get("seed") or 0) < 0:
        raise ConfigError(f"seed cannot be {partial['seed']}.", where=where, fix="use 0 or more")


def set_value(partial: dict[str, Any], assignment: str) -> None:
    """Apply one ``part.field=value`` to a partial plan; the value reads as YAML."""
    import yaml

    path, sign, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not sign or not all(keys):
        raise ConfigError(
            f"{assignment!r} is not of the form part.field=value.",
            where="--set",
            fix="write for example --set training.learning_rate=3e-5",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The value of {path.strip()!r} does not read as YAML: {text!r}.",
            where="--set",
            fix="put texts with brackets, colons or commas in quotes, as in --set 'part.field=[\"a[0]\", b]'",
        ) from error
    if isinstance(value, bool) and text.strip().lower() not in ("true", "false"):
        value = text.strip()  # YAML takes off and no for false
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML reads 3e-5 as text
    into = partial
    for key in keys[:-1]:
        inner = into.setdefault(key, {})
        if isinstance(inner, str):
            inner = into[key] = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"{key} has no fields.", where=f"--set {path}", fix="`whet plan` prints every field")
        into = inner
    into[keys[-1]] = value
    check_keys(partial, "--set")


def plan_of(content: Mapping[str, Any]) -> Plan:
    """A Plan from plain values, every part given."""
    check_keys(content, "plan")
    hints = get_type_hints(Plan)
    values: dict[str, Any] = {}
    for entry in fields(Plan):
        if entry.name not in content:
            if entry.default is MISSING:
                raise ConfigError(
                    f"The plan lacks {entry.name!r}.", where="plan", fix="resolve it first: whet plan --plan FILE"
                )
            continue
        value = content[entry.name]
        kind = MEMBERS.get(entry.name)
        values[entry.name] = member_of(kind, value) if kind else build(hints[entry.name], value, entry.name)
    values["track"] = trackers_of(content.get("track"))
    return Plan(**values)


def member_dict(kind: str, member: Any) -> dict[str, Any]:
    """A member as its catalog name and its settings."""
    if isinstance(member, Auto):
        rungs = [
            {
                "method": member_dict("method", rung.method),
                "epochs": rung.epochs,
                "seconds": rung.seconds,
                "trusted": rung.trusted,
            }
            for rung in member.rungs
        ]
        return {
            "name": "auto",
            "seconds": member.seconds,
            "methods": list(member.methods),
            "folds": member.folds,
            "rungs": rungs,
            "left_out": plain(member.left_out),
        }
    found: dict[str, Any] = {"name": catalog.name_of(kind, member)}
    return found | {entry.name: plain(getattr(member, entry.name)) for entry in fields(member)}


def member_of(kind: str, value: Any) -> Any:
    """A member from its name, or from a dict with its name and settings."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{value!r} is no {kind}.", where=kind, fix=f"use one of {quoted(kind)}")
    settings = {key: content for key, content in value.items() if key != "name"}
    if kind == "method" and value.get("name") == "auto":
        given = settings.get("rungs", ())
        rungs = tuple(replace(build(Rung, rung, "rung"), method=member_of("method", rung["method"])) for rung in given)
        rest = {key: content for key, content in settings.items() if key != "rungs"}
        return replace(build(Auto, {"seconds": 0.0} | rest, kind), rungs=rungs)
    if kind == "method" and "name" in value and value["name"] not in catalog.members(kind):
        raise ConfigError(
            f"There is no method named {value['name']!r}.", where=kind, fix=f"use one of {quoted(kind)} or 'auto'"
        )
    if "name" not in value:
        raise ConfigError(f"The {kind} has no name.", where=kind, fix=f"add `name:`, one of {names_of(kind)}")
    return build(catalog.find(kind, str(value["name"])), settings, kind)


def trackers_of(value: Any) -> tuple[Any, ...]:
    """Trackers from their names, or from dicts with name and settings; the usual ones where nothing is named."""
    given = ALWAYS if value is None else value
    return tuple(member_of("tracker", one) for one in (given if isinstance(given, list | tuple) else [given]))


def quoted(kind: str) -> str:
    """The names of one kind as values."""
    return ", ".join(map(repr, catalog.members(kind)))


def names_of(kind: str) -> str:
    """The names of one kind, for a message."""
    return ", ".join(catalog.members(kind))


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as YAML-able values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain_field(entry, getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def plain_field(entry: Field[Any], value: Any) -> Any:
    """One field of a dataclass; a member of the catalog by its name, if the field says of which kind."""
    kind = entry.metadata.get("member")
    if kind is None or value is None:
        return plain(value)
    return [member_dict(kind, one) for one in value] if isinstance(value, tuple) else member_dict(kind, value)


def build(hint: Any, value: Any, where: str) -> Any:
    """A value of the hinted type from plain values; dataclasses from mappings, tuples from lists."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if value is None and NoneType not in get_args(hint):
        raise ConfigError(
            f"{where} has no value.", where=where, fix=f"give it {TYPES.get(hint, 'one')}, or leave it out"
        )
    if value is None:
        return None
    if origin in (Union, UnionType):
        inner = [kind for kind in get_args(hint) if kind is not NoneType]
        return build(inner[0], value, where) if len(inner) == 1 else value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            value = [value]
        return tuple(build(get_args(hint)[0], inner, where) for inner in value)
    if origin is Literal and value not in get_args(hint):
        known = ", ".join(map(str, get_args(hint)))
        raise ConfigError(f"{value!r} is not a value for {where}.", where=where, fix=f"choose one of {known}")
    if origin is Literal or origin is dict:
        return value
    if is_dataclass(hint):
        return build_dataclass(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a column may be named 2024
    if hint in TYPES and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{value!r} is not a value for {where}.", where=where, fix=f"give {TYPES[hint]}")
    return value


def build_dataclass(kind: Any, value: Any, where: str) -> Any:
    """A dataclass from a mapping of its fields."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} needs fields, got {value!r}.", where=where, fix="`whet plan` prints every field")
    hints = get_type_hints(kind)
    known = [entry.name for entry in fields(kind)]
    for key in value:
        if key not in known:
            raise unknown_key(str(key), known, where)
    members = {entry.name: entry.metadata["member"] for entry in fields(kind) if "member" in entry.metadata}
    return kind(
        **{
            key: members_of(members[key], inner, several=get_origin(some(hints[key])) is tuple)
            if key in members and isinstance(inner, str | Mapping | list | tuple)
            else build(hints[key], inner, f"{where}.{key}")
            for key, inner in value.items()
        }
    )


def some(hint: Any) -> Any:
    """A hint without its None."""
    inner = [kind for kind in get_args(hint) if kind is not NoneType]
    return inner[0] if get_origin(hint) in (Union, UnionType) and len(inner) == 1 else hint


def members_of(kind: str, value: Any, *, several: bool) -> Any:
    """A member of the catalog, or a tuple of them, from names and mappings."""
    if not several:
        return member_of(kind, value)
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(member_of(kind, one) if isinstance(one, str | Mapping) else one for one in given)


def unknown_key(key: str, known: list[str], where: str) -> ConfigError:
    """The error for a key nobody reads."""
    near = closest(key, known) or known
    return ConfigError(f"There is no setting {key!r}.", where=where, fix="use " + " or ".join(near))
