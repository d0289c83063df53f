"""The verbs, for Python and for the command line: check, plan, finetune, load, predict, evaluate.

Each turns its arguments into a partial plan and hands it on; no algorithm lives here.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whet.deploy.predictor import Predictor
from whet.errors import ConfigError, RunError
from whet.evaluation.metric import FunctionMetric, Metric
from whet.evaluation.records import Judgement, Verdict
from whet.folder import (
    METRICS,
    PLAN,
    WORK,
    choose_folder,
    discard,
    has_checkpoint,
    locked,
    make_folder,
    unwritable,
    write_json,
)
from whet.plan import Auto, Plan, member_dict, plain, read_partial, set_value
from whet.report.story import Story, from_record
from whet.resolve import Checked, Objects, Prepared, prepare, reopen
from whet.resolve import check as check_rows
from whet.run import Clock, Outcome, encode, finish, listened, run
from whet.search.ladder import climb
from whet.telling import read_story
from whet.training.events import Said
from whet.training.settings import Training

Observer = Callable[[Any], None]


class Result:
    """What a run ended with.

    Attributes:
        folder: The run folder.
        verdict: The answer on the first test set; ``verdicts`` has one a test set.
        story: Everything the report shows.
        model: The fine-tuned model, a plain ``nn.Module`` in float32.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.folder = outcome.folder
        self.story: Story = outcome.story
        self.judgements: tuple[Judgement, ...] = outcome.judgements
        self._predictor: Predictor | None = None

    @property
    def verdict(self) -> Verdict:
        return self.judgements[0].verdict

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {judgement.test: judgement.verdict for judgement in self.judgements}

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name to value on the first test set."""
        return {score.metric: score.value for score in self.judgements[0].scores["model"]}

    @property
    def predictor(self) -> Predictor:
        """The packaged model, loaded once."""
        if self._predictor is None:
            self._predictor = Predictor.load(self.folder)
        return self._predictor

    @property
    def model(self) -> Any:
        return self.predictor.model

    def predict(self, values: Any) -> list[Any]:
        """Labels (or numbers) for texts, pairs of texts, or rows."""
        return self.predictor.predict(values)

    def predict_proba(self, values: Any) -> np.ndarray[Any, Any]:
        """(N, K) probabilities, columns in the order of ``predictor.labels``."""
        return self.predictor.predict_proba(values)

    def __repr__(self) -> str:
        return f"Result({self.verdict.sentence!r}, folder={str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from whet.report.notebook import result_html

        return result_html(self.story)


def finetune(
    rows: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    text: str | Sequence[str] | None = None,
    model: str | Path | None = None,
    method: Any = None,
    test: Any = None,
    valid: Any = None,
    out: str | Path | None = None,
    seed: int | None = None,
    metric: str | Metric | Callable[[Any, Any], float] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    training: Training | None = None,
    max_length: int | None = None,
    device: str | None = None,
    time: float | str | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    head: str | None = None,
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    observers: Sequence[Observer] = (),
    on_plan: Callable[[Prepared], None] | None = None,
    command: str = "",
) -> Result:
    """Fine-tune, judge and package; the whole job.

    Args:
        rows: A file, a folder, a frame, a datasets.Dataset or DatasetDict, or a list of dicts.
        target: The column to predict; several columns of 0 and 1 for labels.
        text: The input column, two for pairs; None infers it.
        model: A name, a folder or a hub id; None is the packaged encoder.
        method: "probe", "top-layers", "full", "auto", or an object of ``whet.methods``.
        test: Test rows, or several (a list or a dict by name); None holds some out.
        out: The run folder; None numbers one under ``runs/``.
        metric: What selects and decides: a name, or a function ``f(targets, decided) -> float``, more is better.
        loss: ``f(outputs (B, K), targets) -> (B,)`` in place of the task's.
        time: Budget of ``auto``, in seconds or as "5m".
        plan: A plan file; arguments given here go before it. settings: "part.field=value" for any of its fields.
        resume: Go on with an unfinished run in the same folder.
        observers: Called with every event. on_plan: called once the plan stands.

    Raises:
        WhetError: with what was wrong, where, and what to do.
    """
    given = Objects(
        rows=None if isinstance(rows, str | Path) else rows,
        valid=None if isinstance(valid, str | Path) else valid,
        tests=objects_of(test),
        metric=own_metric(metric),
        loss=loss,
    )
    wanted = partial_plan(
        rows, target, text=text, model=model, method=method, test=test, valid=valid, seed=seed, metric=metric,
        training=training, max_length=max_length, device=device, time=time, group=group, time_column=time_column,
        encoding=encoding, head=head, plan=plan, settings=settings,
    )  # fmt: skip
    clock = Clock()
    name = run_name(wanted)
    folder = choose_folder(None if out is None else Path(out), name, resume)
    made = make_folder(folder)
    with locked(folder):
        unfinished = (folder / PLAN).exists()
        from_scratch = resume and not has_checkpoint(folder)
        try:
            prepared = open_run(folder, wanted, given, resume)
            clock.mark("read, check and plan")
            if on_plan is not None:
                on_plan(prepared)
            events = climbed(prepared, folder, command, clock) if is_auto(prepared) else run(
                prepared, folder, command=command, clock=clock
            )  # fmt: skip
            outcome: Outcome = listened(from_the_start(events) if from_scratch else events, folder, list(observers))
        except BaseException as error:
            if not unfinished and not has_checkpoint(folder):
                discard(folder, made)
            if isinstance(error, OSError):
                raise unwritable(error, folder) from error
            raise
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return Result(outcome)


def climbed(prepared: Prepared, folder: Path, command: str, clock: Clock) -> Any:
    """The automatic ladder, then judge and package once, for the winner."""
    rows = encode(prepared)
    clock.mark("encode")
    found = yield from climb(prepared, rows, folder / WORK / "checkpoints")
    clock.mark("fit")
    return (
        yield from finish(
            prepared, found.fitted, rows, folder, command=command, clock=clock, rungs=found.rungs, notes=found.notes
        )
    )


def from_the_start(events: Any) -> Any:
    """The same events, after a word that there was nothing to resume."""
    yield Said(stage="resume", message="There is no checkpoint to resume from; the run starts from the beginning.")
    return (yield from events)


def open_run(folder: Path, wanted: dict[str, Any], given: Objects, resume: bool) -> Prepared:
    """A new plan in the folder, or the one that an unfinished run left there."""
    request = folder / WORK / "request.json"
    scratch = folder / WORK
    if resume and (folder / PLAN).exists():
        refuse_changed(request, wanted)
        return reopen(Plan.read(folder / PLAN), given, scratch)
    prepared = prepare(wanted, given, scratch)
    write_json(request, plain(wanted))
    prepared.plan.write(folder / PLAN)
    return prepared


def refuse_changed(request: Path, wanted: Mapping[str, Any]) -> None:
    """A resumed run must be asked for what the first one was asked for.

    Raises:
        RunError: naming the first setting that differs.
    """
    import json

    if not request.exists():
        return
    before = flat(json.loads(request.read_text(encoding="utf-8")))
    now = flat(json.loads(json.dumps(plain(wanted))))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            first, second = (repr(found[key]) if key in found else "not given" for found in (before, now))
            raise RunError(
                f"The run was started with another {key}: {first}, now {second}.",
                where=str(request.parent.parent),
                fix="give the same settings with --resume, or start a new run with another --out",
            )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        found |= inner
    return found


def check(rows: Any, target: str | Sequence[str] | None = None, **wanted: Any) -> Checked:
    """Read, clean, split and check rows; trains nothing and loads no model. Arguments as ``finetune``."""
    with scratch_folder() as scratch:
        given = Objects(rows=None if isinstance(rows, str | Path) else rows, tests=objects_of(wanted.get("test")))
        return check_rows(partial_plan(rows, target, **wanted), given, scratch)


def plan(rows: Any = None, target: str | Sequence[str] | None = None, **wanted: Any) -> Prepared:
    """The resolved Plan with its forecast; trains nothing. Arguments as ``finetune``."""
    with scratch_folder() as scratch:
        given = Objects(rows=None if isinstance(rows, str | Path) else rows, tests=objects_of(wanted.get("test")))
        return prepare(partial_plan(rows, target, **wanted), given, scratch)


def load(folder: str | Path, *, device: str = "cpu") -> Predictor:
    """The packaged model of a run."""
    return Predictor.load(Path(folder), device=device)


def predict(folder: str | Path, values: Any) -> list[Any]:
    """Answers of a run's model for texts or rows."""
    return load(folder).predict(values)


def evaluate(folder: str | Path, rows: Any, *, metric: str | None = None, seed: int = 0) -> Judgement:
    """Judge a run's model on rows with targets, by the run's own metric unless another is named."""
    from whet.evaluate import evaluate_rows

    return evaluate_rows(Path(folder), rows, metric=metric, seed=seed)


def write_plan(prepared: Prepared, path: Path) -> None:
    """The resolved plan as a file that ``finetune`` takes."""
    try:
        prepared.plan.write(path)
    except OSError as error:
        raise RunError(
            f"The plan cannot be written: {error.strerror}.", where=str(path), fix="choose another --out"
        ) from error


def predict_file(folder: str | Path, source: str | Path, out: str | Path | None = None, *, device: str = "cpu") -> Any:
    """Answer every row of a file into another; says where, and how many rows."""
    from whet.deploy.predict_file import predict_file as answer_file

    return answer_file(load(folder, device=device), source, None if out is None else Path(out))


def report_path(folder: str | Path) -> Path:
    """Where a finished run's report is."""
    story_of(folder)
    return Path(folder) / "report.html"


def story_of(folder: str | Path) -> Story:
    """The story of a finished run."""
    path = Path(folder)
    if not (path / METRICS).exists():
        raise RunError(
            "There is no finished run here.", where=str(path), fix="`whet runs` lists runs; --resume finishes one"
        )
    return from_record(read_story(path))


def partial_plan(
    rows: Any,
    target: str | Sequence[str] | None,
    *,
    text: str | Sequence[str] | None = None,
    model: str | Path | None = None,
    method: Any = None,
    test: Any = None,
    valid: Any = None,
    seed: int | None = None,
    metric: Any = None,
    training: Training | None = None,
    max_length: int | None = None,
    device: str | None = None,
    time: float | str | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    head: str | None = None,
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """What was named, as a partial plan: the plan file first, then arguments, then ``settings``."""
    wanted: dict[str, Any] = read_partial(Path(plan)) if plan is not None else {}
    data = {
        "source": str(rows) if isinstance(rows, str | Path) else None,
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
        "model": {"name": None if model is None else str(model)},
        "machinery": {"device": device},
        "evaluation": {"metric": metric if isinstance(metric, str) else None},
    }
    for part, values in parts.items():
        named = {key: value for key, value in values.items() if value is not None}
        if named:
            wanted[part] = {**wanted.get(part, {}), **named}
    if model is not None:
        wanted["model"] = {"name": str(model)}
    if method is not None:
        wanted["method"] = method if isinstance(method, str) else member_dict("method", method)
    if training is not None:
        wanted["training"] = asdict(training)
    if head is not None:
        wanted["backbone"] = {"name": "text-encoder", **wanted.get("backbone", {}), "head": head}
    if seed is not None:
        wanted["seed"] = seed
    for setting in settings:
        set_value(wanted, setting)
    if time is not None:
        wanted["method"] = with_budget(wanted.get("method"), seconds_of(time))
    if plan is not None and plain(wanted) != plain(read_partial(Path(plan))):
        wanted.pop("forecast", None)  # of the plan as it was; what differs from it is resolved again
    return wanted


def with_budget(method: Any, seconds: float) -> dict[str, Any]:
    """``auto`` with a budget; another method has steps, not time.

    Raises:
        ConfigError: a single method was named.
    """
    name = method.get("name") if isinstance(method, Mapping) else method or "auto"
    if name != "auto":
        raise ConfigError(
            f"--time is the budget of the method auto; {name!r} takes the steps it takes.",
            where="time",
            fix="leave --method out, or limit the steps with --set training.epochs=2",
        )
    return {"name": "auto", "seconds": seconds}


def seconds_of(text: float | str) -> float:
    """ "90", "90s", "5m" or "1.5h" in seconds."""
    if isinstance(text, int | float):
        return float(text)
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    stripped = text.strip().lower()
    factor = units.get(stripped[-1:])
    try:
        found = float(stripped[:-1] if factor else stripped) * (factor or 1.0)
    except ValueError:
        found = -1.0
    if not 0 < found < 1e9:
        raise ConfigError(f"{text!r} is not a time.", where="--time", fix="write for example 90s, 5m or 1h")
    return found


def own_metric(metric: Any) -> Metric | None:
    """A user's function as a metric; a metric object as it is; None for a name."""
    if metric is None or isinstance(metric, str):
        return None
    if hasattr(metric, "per_row"):
        found: Metric = metric
        return found
    return FunctionMetric(metric, getattr(metric, "__name__", "own metric"))


def files_of(test: Any) -> list[str | Path]:
    """The test sets that are files."""
    several = test if isinstance(test, list | tuple) else [test]
    return [one for one in several if isinstance(one, str | Path)]


def objects_of(test: Any) -> Any:
    """Test sets that are objects; None where there are only files."""
    if test is None or isinstance(test, str | Path):
        return None
    if isinstance(test, list | tuple) and test and isinstance(test[0], str | Path):
        return None
    if isinstance(test, Mapping) and not all(isinstance(value, list) for value in test.values()):
        return test
    return [test]


def run_name(wanted: Mapping[str, Any]) -> str:
    """The name of a run: what it learns from and what it predicts."""
    data = wanted.get("data", {})
    source = Path(str(data.get("source") or "rows")).name.split(".")[0] or "rows"
    target = data.get("target") or ["target"]
    first = target[0] if isinstance(target, list | tuple) else target
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in f"{source}-{first}")[:80]


def is_auto(prepared: Prepared) -> bool:
    """Whether the ladder chooses the method."""
    return isinstance(prepared.plan.method, Auto)


@contextmanager
def scratch_folder() -> Any:
    """A temporary folder that vanishes."""
    folder = Path(tempfile.mkdtemp(prefix="whet-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
