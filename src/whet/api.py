"""The verbs, for Python and for the command line: check, plan, find a rate, finetune, inspect, load, predict, evaluate.

Each turns its arguments into a partial plan and hands it on; no algorithm lives here.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from time import time as wall_time
from typing import Any

import numpy as np

from whet.backbones.own_module import Module, give
from whet.catalog import name_of
from whet.checking import Checked, Objects
from whet.checking import check as check_rows
from whet.deploy.predictor import Predictor
from whet.errors import DataError, MachineError, RunError
from whet.evaluation.metric import Metric
from whet.evaluation.records import Judgement, Verdict
from whet.folder import (
    METRICS,
    NOTHING_KEPT,
    PLAN,
    TRACKS,
    WORK,
    discard,
    has_checkpoint,
    how_to_go_on,
    no_finished_run,
    refuse_unfinished,
    require_space,
    run_folder,
    taken_before,
    unwritable,
)
from whet.going_on import refuse_changed, write_request
from whet.inspection.look import inspect_model, refuse_unread
from whet.learners.neural import TrainingRows
from whet.learners.rate_finder import RateCurve
from whet.learners.rate_finder import find_rate as rise_of
from whet.plan import Auto, Plan, trackers_of
from whet.report.inspected import Inspection
from whet.report.rates import write_rates
from whet.report.story import Story, from_record
from whet.request import given_objects, partial_plan, refuse_lost_loss, require_kinds, require_steps, run_name, seed_of
from whet.resolve import Prepared, prepare, reopen
from whet.run import Clock, Outcome, encode, finish, listened, observed, run
from whet.search.ladder import climb
from whet.telling import read_story
from whet.trackers.tracker import opened
from whet.training.cache import trim
from whet.training.events import Said
from whet.training.interrupt import terminable
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
    model: str | Path | Module | None = None,
    rehearse: tuple[str | Path, float] | None = None,
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
    track: Any = (),
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    observers: Sequence[Observer] = (),
    on_plan: Callable[[Prepared], None] | None = None,
    command: str = "",
    began: float | None = None,
) -> Result:
    """Fine-tune, judge and package; the whole job.

    Args:
        rows: A file, a folder, a frame, a datasets.Dataset or DatasetDict, or a list of dicts.
        target: The column to predict; several columns of 0 and 1 for labels.
        text: The input column, two for pairs; None infers it.
        model: A name, a folder or a hub id; None is the packaged encoder. The folder of an earlier run goes on from
            its model: new classes grow the head, and the verdict compares with it on both runs' test rows.
        rehearse: A run and a share, such as ``("runs/first", 0.2)``: so much of its training rows, class by class, is
            mixed in.
        method: "auto", the name of a method such as "probe" or "lora", or an object of ``whet.methods``.
        test: Test rows, or several (a list or a dict by name); None holds some out.
        out: The run folder; None numbers one under ``runs/``.
        metric: What selects and decides: a name, or a function ``f(targets, decided) -> float``, more is better.
        loss: ``f(outputs (B, K), targets) -> (B,)`` in place of the task's.
        time: Budget of ``auto``, in seconds or as "5m".
        track: Who else hears of the run, beside the CSV log: names, or objects of ``whet.trackers``.
        plan: A plan file; arguments given here go before it. settings: "part.field=value" for any of its fields.
        resume: Go on with an unfinished run in the same folder.
        observers: Called with every event. on_plan: called once the plan stands.
        command: How the run was called, for the report and what it says of going on. began: When the run began, by
            ``time.monotonic``, where that was before this call; the forecast and a budget count from there.

    Raises:
        WhetError: with what was wrong, where, and what to do.
    """
    require_kinds({"out": out, "began": began})
    given = given_objects(rows, test, valid, metric, loss)
    wanted = partial_plan(
        rows, target, text=text, model=model, rehearse=rehearse, method=method, test=test, valid=valid, seed=seed,
        metric=metric, loss=loss, training=training, max_length=max_length, device=device, time=time, group=group,
        time_column=time_column, encoding=encoding, head=head, track=track, plan=plan, settings=settings,
    )  # fmt: skip
    refuse_lost_loss(wanted, loss)
    for tracker in trackers_of(wanted.get("track")):
        tracker.require()
    clock = Clock.since(began)
    name = run_name(wanted)
    stands = False
    with terminable(), run_folder(None if out is None else Path(out), name, resume) as (folder, made):
        unfinished = (folder / PLAN).exists()
        try:
            fresh = resume and not has_checkpoint(folder)
            from_scratch = from_the_start(folder, unfinished, named_rows(wanted, given)) if fresh else None
            if from_scratch is not None:
                observed(told_at_once(from_scratch), list(observers))
            prepared = open_run(folder, wanted, given, resume, clock.began)
            stands = True
            clock.mark("start, read, check and plan")
            clock.resume(taken_before(folder, wall_time() - (monotonic() - clock.began)))
            if on_plan is not None:
                on_plan(prepared)
            events = climbed(prepared, folder, command, clock) if is_auto(prepared) else run(
                prepared, folder, command=command, clock=clock
            )  # fmt: skip
            with opened(prepared.plan.track, folder / TRACKS) as trackers:
                everyone = [*trackers, *observers]
                if from_scratch is not None:
                    listened(told_at_once(from_scratch), folder, [])
                outcome: Outcome = listened(events, folder, everyone)
        except BaseException as error:
            kept = unfinished or has_checkpoint(folder)
            told = unwritable(error, folder, kept) if isinstance(error, OSError) else error
            if not kept and not (folder / METRICS).exists():
                discard(folder, made)
            if kept and ended_from_outside(error, stands) and not (folder / METRICS).exists():
                told.add_note(how_to_go_on(folder, command))
            elif not kept and isinstance(error, KeyboardInterrupt | SystemExit):
                told.add_note(NOTHING_KEPT)
            if told is not error:
                raise told from error
            raise
        shutil.rmtree(folder / WORK, ignore_errors=True)
    if prepared.pretrained.cache is not None:
        trim(prepared.pretrained.cache, prepared.plan.machinery.most_kept_bytes)
    return Result(outcome)


def ended_from_outside(error: BaseException, stands: bool) -> bool:
    """Whether a signal or the disk ended a run, so that going on may succeed.

    Once a plan stands, what could not be written is an error with a cause; rows that are not finite have none.
    """
    outside = isinstance(error, KeyboardInterrupt | SystemExit | OSError)
    return outside or (stands and isinstance(error, RunError | MachineError) and error.__cause__ is not None)


def climbed(prepared: Prepared, folder: Path, command: str, clock: Clock) -> Any:
    """The automatic ladder, then judge and package once, for the winner."""
    rows = yield from encode(prepared, clock)
    found = yield from climb(prepared, rows, folder / WORK / "checkpoints")
    clock.mark("fit")
    return (
        yield from finish(
            prepared, found.fitted, rows, folder, command=command, clock=clock, rungs=found.rungs, notes=found.notes
        )
    )


def named_rows(wanted: Mapping[str, Any], given: Objects) -> bool:
    """Whether it is said what to learn from."""
    return given.rows is not None or bool((wanted.get("data") or {}).get("source"))


def from_the_start(folder: Path, unfinished: bool, named: bool) -> Said:
    """A word that there was nothing to resume; it comes before anything is planned, and stands in the log too.

    Args:
        named: Whether rows are, to begin with.

    Raises:
        RunError: there is nothing to begin with either.
    """
    if not (unfinished or named):
        raise RunError(
            "There is no unfinished run to resume, and no rows are named to begin one.",
            where="--resume",
            fix="name the run's folder with --out, or the rows",
        )
    lacking = "no checkpoint to resume from" if unfinished else f"no run to resume in {folder}"
    return Said(stage="resume", message=f"There is {lacking}; the run starts from the beginning.")


def told_at_once(said: Said) -> Any:
    """One event, before any others."""
    yield said


def open_run(folder: Path, wanted: dict[str, Any], given: Objects, resume: bool, began: float) -> Prepared:
    """A new plan in the folder, or the one that an unfinished run left there."""
    scratch = folder / WORK
    if resume and (folder / PLAN).exists():
        plan = Plan.read(folder / PLAN)
        refuse_changed(folder, plan, wanted, given)
        return followed(reopen(plan, given, scratch), wanted, folder)
    prepared = with_space(prepare(wanted, given, scratch, began=began), folder)
    write_request(folder, prepared.plan, wanted, given)
    prepared.plan.write(folder / PLAN)
    return prepared


def with_space(prepared: Prepared, folder: Path) -> Prepared:
    """The same, with a word where the cache may not fit; refused where the run folder's part does not."""
    forecast, cache = prepared.plan.forecast, prepared.pretrained.cache
    beside = forecast.disk_bytes - forecast.run_disk_bytes
    found = require_space(folder, forecast.run_disk_bytes, cache, beside)
    return replace(prepared, findings=(*prepared.findings, *found))


def followed(prepared: Prepared, wanted: Mapping[str, Any], folder: Path) -> Prepared:
    """A resumed run under the trackers that are named now, or else under those that it had."""
    if "track" not in wanted:
        return prepared
    plan = replace(prepared.plan, track=trackers_of(wanted["track"]))
    plan.write(folder / PLAN)
    return replace(prepared, plan=plan)


def check(
    rows: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    text: str | Sequence[str] | None = None,
    test: Any = None,
    valid: Any = None,
    seed: int | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Checked:
    """Read, clean, split and check rows; trains nothing and loads no model. Arguments as ``finetune``."""
    wanted = partial_plan(
        rows, target, text=text, test=test, valid=valid, seed=seed, group=group, time_column=time_column,
        encoding=encoding, plan=plan, settings=settings,
    )  # fmt: skip
    with scratch_folder() as scratch:
        return check_rows(wanted, given_objects(rows, test, valid), scratch)


def plan(
    rows: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    text: str | Sequence[str] | None = None,
    model: str | Path | Module | None = None,
    rehearse: tuple[str | Path, float] | None = None,
    method: Any = None,
    test: Any = None,
    valid: Any = None,
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
    track: Any = (),
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
    began: float | None = None,
) -> Prepared:
    """The resolved Plan with its forecast; trains nothing. Arguments as ``finetune``."""
    wanted = partial_plan(
        rows, target, text=text, model=model, rehearse=rehearse, method=method, test=test, valid=valid, seed=seed,
        metric=metric, loss=loss, training=training, max_length=max_length, device=device, time=time, group=group,
        time_column=time_column, encoding=encoding, head=head, track=track, plan=plan, settings=settings,
    )  # fmt: skip
    refuse_lost_loss(wanted, loss)
    with scratch_folder() as scratch:
        return prepare(wanted, given_objects(rows, test, valid, metric, loss), scratch, began=began)


def find_rate(
    rows: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    method: Any = None,
    text: str | Sequence[str] | None = None,
    model: str | Path | Module | None = None,
    test: Any = None,
    valid: Any = None,
    out: str | Path | None = None,
    seed: int | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    training: Training | None = None,
    max_length: int | None = None,
    device: str | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    head: str | None = None,
    plan: str | Path | None = None,
    settings: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> RateCurve:
    """Loss against learning rate for one method, from about a hundred steps of which nothing is kept.

    Arguments as ``finetune``. Of the curve, ``suggestion`` is for ``training.learning_rate``.

    Args:
        method: One that takes gradient steps; not ``auto``.
        out: Where the picture is written, a page of its own; None writes none.
    """
    wanted = partial_plan(
        rows, target, text=text, model=model, method=method, test=test, valid=valid, seed=seed, loss=loss,
        training=training, max_length=max_length, device=device, group=group, time_column=time_column,
        encoding=encoding, head=head, plan=plan, settings=settings,
    )  # fmt: skip
    refuse_lost_loss(wanted, loss)
    require_steps(wanted)
    with scratch_folder() as scratch:
        prepared = prepare(wanted, given_objects(rows, test, valid, None, loss), scratch)
        curve: RateCurve = listened(rates_of(prepared), scratch, list(observers))
    if out is not None:
        try:
            write_rates(curve, Path(out))
        except OSError as error:
            raise RunError(
                f"The picture cannot be written: {error.strerror}.", where=str(out), fix="choose another --out"
            ) from error
    return curve


def rates_of(prepared: Prepared) -> Any:
    """The plan's method on its training rows, at rising rates."""
    rows = yield from encode(prepared, Clock())
    method, training = prepared.plan.method, prepared.plan.training
    learner = prepared.pretrained.learner(prepared.task, prepared.state, prepared.columns, method, training)
    names = name_of("method", method), name_of("optimizer", training.optimizer)
    return (yield from rise_of(learner, TrainingRows(rows.train, None, rows.units), *names))


def inspect(
    model: str | Path | Module | None = None,
    data: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    text: str | Sequence[str] | None = None,
    test: Any = None,
    valid: Any = None,
    seed: int | None = None,
    metric: str | Metric | Callable[[Any, Any], float] | None = None,
    max_length: int | None = None,
    device: str | None = None,
    group: str | None = None,
    time_column: str | None = None,
    encoding: str | None = None,
    head: str | None = None,
    settings: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> Inspection:
    """What a model is made of and what each method would train; with rows, what a probe reads in each block.

    Rows are checked and split as by ``check``; test and validation rows are not looked into.

    Args:
        model: A name, a folder, a run folder or a hub id; None is the packaged encoder.
        data: Rows, as ``finetune`` takes them; the other arguments but ``head`` need them.
        settings: "part.field=value" for fields of the plan that matter here; no method's, since all are shown.

    Raises:
        WhetError: with what was wrong, where, and what to do.
    """
    given = {
        "target": target, "text": text, "test": test, "valid": valid, "seed": seed, "metric": metric,
        "max_length": max_length, "device": device, "group": group, "time_column": time_column, "encoding": encoding,
    }  # fmt: skip
    wanted = partial_plan(
        data, target, text=text, model=model, test=test, valid=valid, seed=seed, metric=metric, max_length=max_length,
        device=device, group=group, time_column=time_column, encoding=encoding, head=head, settings=settings,
    )  # fmt: skip
    if isinstance(model, str | Path):
        refuse_unfinished(Path(model).expanduser())
    refuse_unread(wanted, [name for name, value in given.items() if value is not None], with_rows=data is not None)
    with scratch_folder() as scratch:
        return observed(inspect_model(wanted, given_objects(data, test, valid, metric), scratch), observers)  # type: ignore[no-any-return]


def load(folder: str | Path, *, model: Any = None, device: str = "cpu") -> Predictor:
    """The packaged model of a run.

    Args:
        model: The ``torch.nn.Module`` that the run was given as an object, for whose class no file has the code.
    """
    refuse_unfinished(Path(folder))
    if model is not None:
        give(model.net if isinstance(model, Module) else model)
    return Predictor.load(Path(folder), device=device)


def predict(folder: str | Path, values: Any) -> list[Any]:
    """Answers of a run's model for texts or rows."""
    return load(folder).predict(values)


def evaluate(
    folder: str | Path, rows: Any, *, metric: str | None = None, seed: int = 0, encoding: str | None = None
) -> Judgement:
    """Judge a run's model on rows with targets, by the run's own metric unless another is named.

    Args:
        encoding: Of a text file; None finds it out.

    Raises:
        ConfigError: an encoding is named for rows that are in no text file, or the seed is none.
    """
    from whet.evaluate import evaluate_rows

    refuse_unfinished(Path(folder))
    return evaluate_rows(Path(folder), rows, metric=metric, seed=seed_of(seed), encoding=encoding)


def write_plan(prepared: Prepared, path: Path) -> None:
    """The resolved plan as a file that ``finetune`` takes."""
    try:
        prepared.plan.write(path)
    except OSError as error:
        raise RunError(
            f"The plan cannot be written: {error.strerror}.", where=str(path), fix="choose another --out"
        ) from error


def predict_file(
    folder: str | Path,
    source: str | Path,
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    encoding: str | None = None,
) -> Any:
    """Answer every row of a file into another; says where, and how many rows."""
    from whet.deploy.predict_file import predict_file as answer_file

    return answer_file(load(folder, device=device), source, None if out is None else Path(out), encoding=encoding)


def is_file_of_rows(text: str, folder: str | Path) -> bool:
    """Whether a text is rather the path of a file of rows, or of a folder of inputs, than what the run answers itself.

    Raises:
        DataError: it looks like one, and there is no such file.
        ModelError: there is no model of whet in ``folder``.
    """
    from whet.data.reader import readers
    from whet.deploy.predictor import modality_of, model_folder

    is_file = is_folder = False
    with suppress(OSError, ValueError):  # a text may be longer than a name can be
        is_file = bool(Path(text).suffix) and Path(text).is_file()
        is_folder = Path(text).is_dir()
    if is_file or is_folder:
        kind = modality_of(model_folder(Path(folder)))
        return kind.by_name if is_folder else not kind.held_in(Path(text))
    if not any(letter.isspace() for letter in text) and any(reader.reads(text) for reader in readers().values()):
        raise DataError(f"There is no file {text!r}.", where="whet predict", fix="check the path")
    return False


def report_path(folder: str | Path) -> Path:
    """Where a finished run's report is."""
    story_of(folder)
    return Path(folder) / "report.html"


def story_of(folder: str | Path) -> Story:
    """The story of a finished run."""
    path = Path(folder)
    if not (path / METRICS).exists():
        raise no_finished_run(path)
    return from_record(read_story(path))


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
