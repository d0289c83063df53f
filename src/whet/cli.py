"""Flags to a partial plan to the api, and answers to the terminal; nothing else.

Exit codes: 0 done, 2 the user's input or machine cannot work (said without a traceback), 130 interrupted, 143
terminated.
Heavy imports happen inside the commands, so that ``--help`` is quick.
"""

import atexit
import gc
import os
import shlex
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="whet",
    help="Fine-tune a pre-trained model on your own rows, on your own machine, with an honest verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Rows = Annotated[Optional[str], typer.Argument(help="A CSV, TSV, JSON, JSONL, Parquet or Arrow file, or a folder.")]
Target = Annotated[Optional[list[str]], typer.Option("--target", help="Column to predict; repeat for 0/1 columns.")]
TextColumn = Annotated[Optional[list[str]], typer.Option("--text", help="Input column; repeat for pairs.")]
Model = Annotated[
    Optional[str],
    typer.Option("--model", help="Name, folder or hub id of the pre-trained model, or a run to go on from."),
]
Rehearse = Annotated[
    Optional[tuple[str, float]],
    typer.Option(
        "--rehearse",
        metavar="RUN SHARE",
        help="Mix in this share of the training rows of an earlier run, class by class.",
    ),
]
Method = Annotated[
    Optional[str],
    typer.Option("--method", help="auto (default), probe, top-layers, full, lora or any other that the README lists."),
]
Test = Annotated[Optional[list[str]], typer.Option("--test", help="Test file; repeat for several verdicts.")]
Valid = Annotated[Optional[str], typer.Option("--valid", help="Validation file.")]
Seed = Annotated[Optional[int], typer.Option("--seed", help="Of every random draw (default 0).")]
Metric = Annotated[Optional[str], typer.Option("--metric", help="What selects and decides.")]
MaxLength = Annotated[Optional[int], typer.Option("--max-length", help="Tokens a window; longer texts are pooled.")]
Views = Annotated[Optional[int], typer.Option("--views", help="Of each example, some augmented (default 4, if safe).")]
Device = Annotated[Optional[str], typer.Option("--device", help="auto, cpu, cuda or mps.")]
Time = Annotated[Optional[str], typer.Option("--time", help="Budget of auto, such as 90s, 5m or 1h.")]
Group = Annotated[Optional[str], typer.Option("--group", help="Column whose equal values stay on one side.")]
TimeColumn = Annotated[Optional[str], typer.Option("--time-column", help="Column of times; test is the latest.")]
Encoding = Annotated[Optional[str], typer.Option("--encoding", help="Of the text files.")]
Head = Annotated[Optional[str], typer.Option("--head", help="pooled (default) or native.")]
Track = Annotated[
    Optional[list[str]],
    typer.Option("--track", help="Beside the CSV log: tensorboard, energy, energy:country=FRA; repeat, or use commas."),
]
PlanFile = Annotated[Optional[str], typer.Option("--plan", help="A plan file; flags go before it.")]
Settings = Annotated[Optional[list[str]], typer.Option("--set", help="part.field=value for any field of the plan.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

ENDED: dict[Any, str] = {130: "\nInterrupted.", 143: "\nTerminated."}
"""What a signal ends the command with."""


@app.command()
def finetune(
    rows: Rows = None,
    target: Target = None,
    text: TextColumn = None,
    model: Model = None,
    rehearse: Rehearse = None,
    method: Method = None,
    test: Test = None,
    valid: Valid = None,
    out: Annotated[Optional[str], typer.Option("--out", help="Run folder (default: numbered under runs/).")] = None,
    seed: Seed = None,
    metric: Metric = None,
    max_length: MaxLength = None,
    views: Views = None,
    device: Device = None,
    time: Time = None,
    group: Group = None,
    time_column: TimeColumn = None,
    encoding: Encoding = None,
    head: Head = None,
    track: Track = None,
    plan: PlanFile = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the verdict.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check, plan, fit, judge and package: rows in, a judged model out."""
    began = monotonic()
    from whet import api
    from whet.report import progress, terminal

    console = make_console(stderr=as_json)
    shown = terminal if not quiet and not as_json else None
    with progress.choose(quiet=quiet, as_json=as_json) as observer:
        result = api.finetune(
            rows,
            target,
            text=text,
            model=model,
            rehearse=rehearse,
            method=method,
            test=test,
            valid=valid,
            out=out,
            seed=seed,
            metric=metric,
            max_length=max_length,
            device=device,
            time=time,
            group=group,
            time_column=time_column,
            encoding=encoding,
            head=head,
            track=track or (),
            plan=plan,
            settings=with_views(settings, views),
            resume=resume,
            observers=[observer],
            on_plan=None if shown is None else lambda prepared: show_prepared(prepared, console, "warning"),
            command=shlex.join(["whet", *sys.argv[1:]]),
            began=began,
        )
    if as_json:
        print_json({"event": "finished", "folder": str(result.folder), "metrics": result.metrics,
                    "verdict": result.verdict.sentence})  # fmt: skip
    else:
        terminal.print_verdict(result.story, console)


@app.command()
def check(
    rows: Rows = None,
    target: Target = None,
    text: TextColumn = None,
    test: Test = None,
    valid: Valid = None,
    seed: Seed = None,
    group: Group = None,
    time_column: TimeColumn = None,
    encoding: Encoding = None,
    plan: PlanFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find what will hurt in the rows; loads no model."""
    from dataclasses import asdict

    from whet import api
    from whet.report import terminal
    from whet.telling import checked_facts

    found = api.check(
        rows, target, text=text, test=test, valid=valid, seed=seed, group=group, time_column=time_column,
        encoding=encoding, plan=plan, settings=settings or (),
    )  # fmt: skip
    if as_json:
        for finding in found.findings:
            print_json(asdict(finding))
        facts = checked_facts(found)
        print_json({"event": "checked", "source": facts.source, "task": facts.task, "columns": asdict(facts.columns),
                    "rows": facts.rows, "classes": facts.class_counts, "findings": len(found.findings)})  # fmt: skip
        return
    console = make_console()
    terminal.print_data(checked_facts(found), console)
    terminal.print_findings(found.findings, console)
    terminal.print_checked(found.findings, console)


@app.command("plan")
def plan_command(
    rows: Rows = None,
    target: Target = None,
    text: TextColumn = None,
    model: Model = None,
    rehearse: Rehearse = None,
    method: Method = None,
    test: Test = None,
    valid: Valid = None,
    out: Annotated[str, typer.Option("--out", help="Where the plan is written.")] = "plan.yaml",
    seed: Seed = None,
    metric: Metric = None,
    max_length: MaxLength = None,
    views: Views = None,
    device: Device = None,
    time: Time = None,
    group: Group = None,
    time_column: TimeColumn = None,
    encoding: Encoding = None,
    head: Head = None,
    track: Track = None,
    plan: PlanFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Resolve every choice, forecast, and write the plan; trains nothing."""
    began = monotonic()
    from whet import api

    found = api.plan(
        rows, target, text=text, model=model, rehearse=rehearse, method=method, test=test, valid=valid, seed=seed,
        metric=metric, max_length=max_length, device=device, time=time, group=group, time_column=time_column,
        encoding=encoding, head=head, track=track or (), plan=plan, settings=with_views(settings, views), began=began,
    )  # fmt: skip
    api.write_plan(found, Path(out))
    if as_json:
        print_json(found.plan.as_dict())
        return
    console = make_console()
    show_prepared(found, console, "info")
    console.print(f"\n  plan    {out}\n  use     whet finetune --plan {out}", highlight=False, markup=False)


def with_views(settings: Optional[list[str]], views: Optional[int]) -> list[str]:
    """Settings with a number of views, if one is named."""
    return [*(settings or ()), *([] if views is None else [f"training.views={views}"])]


@app.command("find-rate")
def find_rate(
    rows: Rows = None,
    target: Target = None,
    text: TextColumn = None,
    model: Model = None,
    method: Annotated[Optional[str], typer.Option("--method", help="One that takes gradient steps; not auto.")] = None,
    test: Test = None,
    valid: Valid = None,
    out: Annotated[str, typer.Option("--out", help="Where the picture is written.")] = "rates.html",
    seed: Seed = None,
    max_length: MaxLength = None,
    device: Device = None,
    group: Group = None,
    time_column: TimeColumn = None,
    encoding: Encoding = None,
    head: Head = None,
    plan: PlanFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Try learning rates from low to high and draw the loss at each; keeps nothing else."""
    from whet import api
    from whet.report import progress, rates, terminal

    with progress.choose(quiet=as_json) as observer:
        curve = api.find_rate(
            rows, target, text=text, model=model, method=method, test=test, valid=valid, out=out, seed=seed,
            max_length=max_length, device=device, group=group, time_column=time_column, encoding=encoding, head=head,
            plan=plan, settings=settings or (), observers=[observer],
        )  # fmt: skip
    use = with_rate(sys.argv[1:], curve.suggestion)
    if as_json:
        print_json(rates.record(curve) | {"use": use, "path": out})
    else:
        terminal.print_facts(rates.facts(curve) | {"plot": out}, rates.meaning(curve), use, make_console())


@app.command()
def inspect(
    model: Annotated[Optional[str], typer.Argument(help="Name, folder, run folder or hub id.")] = None,
    data: Annotated[Optional[str], typer.Option("--data", help="Rows to probe every block with.")] = None,
    target: Target = None,
    text: TextColumn = None,
    test: Test = None,
    valid: Valid = None,
    seed: Seed = None,
    metric: Metric = None,
    max_length: MaxLength = None,
    device: Device = None,
    group: Group = None,
    time_column: TimeColumn = None,
    encoding: Encoding = None,
    head: Head = None,
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a model's blocks, cuts and what each method would train; with --data, what each block can tell."""
    from dataclasses import asdict

    from whet import api
    from whet.report import progress, terminal

    with progress.choose(quiet=as_json) as observer:
        found = api.inspect(
            model, data, target, text=text, test=test, valid=valid, seed=seed, metric=metric, max_length=max_length,
            device=device, group=group, time_column=time_column, encoding=encoding, head=head,
            settings=settings or (), observers=[observer],
        )  # fmt: skip
    if as_json:
        print_json(asdict(found))
        return
    console = make_console()
    if found.data is not None:
        terminal.print_data(found.data, console)
        terminal.print_findings(found.data.findings, console, "warning", "told by `whet check`")
        console.print()
    terminal.print_inspection(found, console)


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    what: Annotated[str, typer.Argument(help="A text or another input, a file of rows, or a folder of inputs.")],
    second: Annotated[Optional[str], typer.Argument(help="The second text of a pair.")] = None,
    out: Annotated[Optional[str], typer.Option("--out", help="A .csv or .jsonl file for the answers.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    encoding: Encoding = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer for one text, or for every row of a file."""
    from whet import api

    if api.is_file_of_rows(what, run):
        written = api.predict_file(run, what, out, device=device, encoding=encoding)
        for finding in written.findings:
            print(f"! {finding.message}\n  {finding.where}\n  try: {finding.fix}", file=sys.stderr)
        if as_json:
            print_json({"path": written.path, "rows": written.rows, "empty": written.empty})
        else:
            without = f", {written.empty:,} of them without an input" if written.empty else ""
            print(f"{written.rows:,} rows answered{without}: {written.path}")
        return
    for option, given in (("--out", out), ("--encoding", encoding)):
        if given is not None:
            raise_no_file(what, option)
    predictor = api.load(run, device=device)
    require_inputs(predictor, run, 1 if second is None else 2)
    show_answer(predictor, what if second is None else (what, second), as_json)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    rows: Annotated[str, typer.Argument(help="Rows with targets that the model has not seen.")],
    metric: Metric = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    encoding: Encoding = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge a run's model on new rows."""
    from dataclasses import asdict

    from whet import api
    from whet.report.lines import note_lines, score_lines
    from whet.report.terminal import show

    found = api.evaluate(run, rows, metric=metric, seed=seed, encoding=encoding)
    if as_json:
        print_json(asdict(found))
        return
    console = make_console()
    width = min(console.width, 110)
    show([*score_lines(found, width), [], *note_lines(found, width)], console)


@app.command()
def runs(
    folder: Annotated[str, typer.Argument(help="Where runs lie.")] = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List runs, newest first."""
    from whet import listing
    from whet.report.terminal import print_runs

    emit(listing.runs(Path(folder)), print_runs, as_json)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    print_path: Annotated[bool, typer.Option("--path", help="Only print where it is.")] = False,
    debug: Debug = False,
) -> None:
    """Open a run's report, or print its path where there is no browser."""
    from whet import api

    path = api.report_path(run)
    if not print_path and sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")):
        typer.launch(path.resolve().as_uri())
    print(path)


@app.command()
def models(as_json: AsJson = False, debug: Debug = False) -> None:
    """List models at hand: packaged, local and cached, with size and licence."""
    from whet import listing
    from whet.report.terminal import print_models

    emit(listing.models(), print_models, as_json)


@app.command()
def doctor(
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure this machine: speed in each precision, the path chosen, memory, disk, versions."""
    from whet import listing
    from whet.report.terminal import print_doctor

    emit(listing.doctor(device), print_doctor, as_json)


@app.command()
def demo(
    time: Annotated[str, typer.Option("--time", help="Budget.")] = "15s",
    out: Annotated[Optional[str], typer.Option("--out", help="Run folder.")] = None,
    debug: Debug = False,
) -> None:
    """Run the main job on packaged support tickets with the packaged encoder; needs no network."""
    from whet.demo import tickets_path

    words = ["finetune", str(tickets_path()), "--target", "intent", "--time", time]
    words += ["--out", out] if out else []
    print("$ " + shlex.join(["whet", *words]) + "\n", flush=True)
    sys.argv = ["whet", *words]
    app(words, standalone_mode=False)


def raise_no_file(what: str, option: str) -> None:
    """Some options belong to a file of rows."""
    from whet.errors import DataError

    fix = f"leave {option} out to answer a single text"
    raise DataError(f"There is no file {what!r}.", where="whet predict", fix=fix)


def require_inputs(predictor: Any, run: str, given: int) -> None:
    """As many values as the model reads."""
    from whet.errors import DataError

    wanted, nouns = len(predictor.columns.inputs), predictor.columns.modality.nouns
    if wanted != given:
        values = " ".join(f'"{word} {nouns[0]}"' for word in ("a", "another")[:wanted])
        raise DataError(
            f"The model reads {wanted} {nouns[wanted > 1]} at a time, and got {given}.",
            where="whet predict",
            fix=f"whet predict {shlex.quote(run)} {values}; put what has blanks in quotes, and many rows in a file",
        )


def with_rate(words: list[str], rate: float) -> str:
    """The command that fine-tunes as ``find-rate`` was called, at a rate."""
    kept, rest = ["whet", "finetune"], iter(words[1:])
    for word in rest:
        value = [next(rest, "")] if word in ("--out", "--set") else []
        rated = any(one.startswith("training.learning_rate=") for one in (*value, word.removeprefix("--set=")))
        if not (word in ("--out", "--json", "--debug") or word.startswith("--out=") or rated):
            kept += [word, *value]
    return shlex.join([*kept, "--set", f"training.learning_rate={rate:g}"])


def show_answer(predictor: Any, value: Any, as_json: bool) -> None:
    """One text's answer, with the likeliest labels and their probabilities; as JSON with all of them."""
    from whet.deploy.predict_file import LIKELIEST
    from whet.report.words import clean

    answer = predictor.predict([value])[0]
    scores = predictor.predict_proba([value])[0] if predictor.labels else []
    ranked = sorted(zip(scores, predictor.labels, strict=False), reverse=True)
    if not "".join([value] if isinstance(value, str) else value).strip():
        print("The text is empty; this is what an empty text is answered with.", file=sys.stderr)
    if as_json:
        scored = {"scores": {label: float(score) for score, label in ranked}} if ranked else {}
        print_json({"predicted": answer} | scored)
        return
    if isinstance(answer, list):
        answer = ", ".join(answer) or "(no label)"
    print(clean(answer) if isinstance(answer, str) else f"{answer:.6g}")
    for score, label in ranked[:LIKELIEST]:
        print(f"  {score:6.1%}  {clean(label)}")


def show_prepared(prepared: Any, console: "Console", level: str) -> None:
    """Data, findings from ``level`` up, and the plan with its forecast."""
    from whet.report import terminal
    from whet.telling import data_facts, forecast_cost

    terminal.print_data(data_facts(prepared), console)
    terminal.print_findings(prepared.findings, console, level)
    terminal.print_brief(prepared.plan.brief(), forecast_cost(prepared.forecast), console)
    if level == "info":
        terminal.print_plan(prepared.plan.as_dict(), console)


def make_console(stderr: bool = False) -> "Console":
    """A rich console; plain where the output is not a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, width=None if sys.stdout.isatty() else 110)


def emit(records: list[dict[str, Any]], printer: Any, as_json: bool) -> None:
    """Records as lines of JSON or as a table."""
    if as_json:
        for record in records:
            print_json(record)
    else:
        printer(records, make_console())


def print_json(content: Any) -> None:
    """One line of JSON."""
    import json

    print(json.dumps(content, ensure_ascii=False, default=str), flush=True)


def main() -> None:
    """The command ``whet``."""
    from whet.errors import WhetError

    signal.signal(signal.SIGINT, interrupt_once)
    atexit.register(gc.freeze)  # else Python goes through all that libraries hold once more as it ends: two seconds
    debug = "--debug" in sys.argv
    try:
        app()
    except WhetError as error:
        if debug:
            raise
        say_ended(f"{type(error).__name__}: {error}", error)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        if debug:
            raise
        say_ended("\nInterrupted.", stop)
        sys.exit(130)
    except SystemExit as stop:
        if stop.code in ENDED:  # typer passes Ctrl-C on as 130
            say_ended(ENDED[stop.code], stop)
        raise
    except OSError as error:
        if debug:
            raise
        sys.stderr.write(f"{os_error_text(error)}\n")
        sys.exit(2)


def interrupt_once(number: int, frame: Any) -> None:
    """Ctrl-C ends the command; pressed again it cannot cut off how it ends."""
    signal.signal(signal.SIGINT, not_again)  # SIG_IGN would make Python complain of a press that is under way
    raise KeyboardInterrupt


def not_again(number: int, frame: Any) -> None:
    """Ctrl-C while the command already ends."""


def say_ended(what: str, error: BaseException) -> None:
    """What ended the command, and last how to go on, which is noted on the error or on the Ctrl-C behind it."""
    sys.stderr.write("\n".join([what, *notes_of(error)]) + "\n")


def notes_of(error: BaseException | None) -> list[str]:
    """The notes of the first error behind this one that has any."""
    while error is not None and not getattr(error, "__notes__", None):
        error = error.__context__
    return [] if error is None else error.__notes__


def os_error_text(error: OSError) -> str:
    """A disk or file error in the form of every other error."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "free some space, then go on with --resume" if full else "check the path and your rights to it"
    what = "The disk is full." if full else f"A file cannot be used: {error.strerror or error}."
    return f"MachineError: {what}\n  where: {error.filename or 'while writing'}\n  try:   {fix}"


if __name__ == "__main__":
    main()
