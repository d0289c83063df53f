"""What bad input gets from the command: exit code 2, what and where and what to try, and nothing half-written."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from whet import api
from whet.errors import ConfigError
from whet.folder import locked

from .conftest import QUICK, Answer, Command, listing, mounted, write_rows

CORPUS = Path(__file__).parent.parent / "corpus"
PROBE = ("--method", "probe", *QUICK)


def assert_refused(answer: Answer, *words: str) -> None:
    """An error in the form of every other, with these words in it."""
    assert answer.code == 2, answer
    assert "Traceback" not in answer.err + answer.out
    first, *rest = answer.err.strip().splitlines()[-3:]
    assert first.partition(":")[0] in ("DataError", "ConfigError", "ModelError", "RunError", "MachineError"), first
    assert [line.partition(":")[0].strip() for line in rest] == ["where", "try"], answer.err
    for word in words:
        assert word in answer.err, answer.err


FILES = [
    ("absent.csv", ("There is no file",)),
    ("empty.csv", ("empty",)),
    ("header_only.csv", ("header but no rows",)),
    ("ragged_more.csv", ("Row 25 has 4 fields", "header has 2")),
    ("ragged_fewer.csv", ("Row 26 has 1 field",)),
    ("open_quote.csv", ("never closed",)),
    ("twice_named.csv", ("'text'", "columns 1 and 3")),
    ("other_target.csv", ("no column 'label'", "'intnet'")),
    ("one_class.csv", ("all one class", "'same'")),
    ("all_texts_empty.csv", ("No usable row",)),
    ("not_cp1252.csv", ("neither UTF-8", "line 26")),
    ("too_few.csv", ("at least 10",)),
    ("malformed.jsonl", ("malformed in line 2",)),
    ("nested_text.jsonl", ("not text",)),
]


@pytest.mark.parametrize(("name", "words"), FILES, ids=[name for name, _ in FILES])
def test_a_bad_file_of_rows_is_refused(name: str, words: tuple[str, ...], whet: Command, here: Path) -> None:
    answer = whet("finetune", CORPUS / name, "--target", "label", "--text", "text", *PROBE)
    assert_refused(answer, *words)
    assert listing(here) == set()


def test_a_test_file_in_which_no_class_is_known_is_refused_before_anything_is_fitted(whet: Command, here: Path) -> None:
    write_rows(here / "rows.csv", 40)
    (here / "other.csv").write_text("text,label\n" + "".join(f"row {i},{i / 7:.2f}\n" for i in range(30)))
    answer = whet("finetune", "rows.csv", "--target", "label", "--test", "other.csv", *PROBE)
    assert_refused(answer, "None of the classes of other is known", "'0.00'", "other.csv, column 'label'")
    assert listing(here) == {"rows.csv", "other.csv"}


@pytest.mark.parametrize("length", [-1, 0, 3])
def test_a_window_too_small_is_refused(length: int, whet: Command, here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv", 40)
    answer = whet("plan", "rows.csv", "--target", "label", "--model", tiny_model, "--max-length", length, *PROBE)
    assert_refused(answer, f"max_length {length} cannot work", "choose between 8 and")


def test_a_text_column_named_as_times_is_what_is_wrong(whet: Command, here: Path) -> None:
    write_rows(here / "rows.csv", 40)
    answer = whet("check", "rows.csv", "--target", "label", "--time-column", "text")
    assert_refused(answer, "The column 'text' holds no times: it begins with 'my card number 0", "rows.csv, row 1")


def test_a_file_of_rows_is_no_plan_file(whet: Command, here: Path) -> None:
    write_rows(here / "rows.csv", 40)
    assert_refused(whet("finetune", "--plan", "rows.csv"), "This is no plan file", "rows.csv", "`whet plan` writes")


MADE: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("image.csv", b"\x89PNG\r\n\x1a\n" + bytes(100), ("PNG",)),
    ("noise.csv", bytes(range(256)) * 40 + bytes(2000), ("not text", "NUL")),
    ("packed.csv", gzip.compress(b"text,label\n"), ("gzip", "packed.csv.gz")),
    ("rows.xyz", b"text,label\n", ("ending",)),
]


@pytest.mark.parametrize(("name", "content", "words"), MADE, ids=[name for name, _, _ in MADE])
def test_a_file_of_another_kind_is_refused(
    name: str, content: bytes, words: tuple[str, ...], whet: Command, here: Path
) -> None:
    (here / name).write_bytes(content)
    assert_refused(whet("finetune", name, "--target", "label", *PROBE), *words)
    assert listing(here) == {name}


FLAGS = [
    (("--target", "lable"), ("no column 'lable'", "'label'")),
    (("--text", "txt"), ("no column 'txt'", "'text'")),
    (("--text", "label"), ("both input and target",)),
    (("--set", "training.average=ema"), ("no gradient steps", "training.average")),
    (("--set", "task={name: classification, focal_gamma: 2}"), ("no gradient steps", "task.focal_gamma")),
    (
        ("--method", "full", "--set", "training.average=soup", "--set", "data.valid_fraction=0"),
        ("no validation rows", "training.average"),
    ),
    (("--set", "training={mixup: 0.2, micro_batch_size: 3}"), ("would part one", "training.micro_batch_size")),
    (("--method", "prob"), ("no method named 'prob'", "'probe'")),
    (("--metric", "acuracy"), ("no metric named 'acuracy'", "'accuracy'")),
    (("--metric", "rmse"), ("'rmse'",)),
    (("--set", "training.learning_rat=3"), ("'learning_rat'", "learning_rate")),
    (("--set", "trainin.epochs=3"), ("'trainin'", "training")),
    (("--set", "training.learning_rate=fast"), ("'fast'", "a number")),
    (("--set", "training.epochs=0"), ("epochs cannot be 0",)),
    (("--set", "training=7"), ("training needs fields",)),
    (("--set", "data=7"), ("data needs fields",)),
    (("--set", "data.test_fraction=2"), ("test_fraction", "where: data.test_fraction")),
    (("--set", "data.test_fraction=some"), ("'some'", "data.test_fraction")),
    (("--set", "seed=abc"), ("'abc'", "whole number")),
    (("--set", "seed=-1"), ("seed cannot be -1",)),
    (("--set", "machinery.precision=float8"), ("'float8'", "bfloat16")),
    (("--set", "machinery.threads=0"), ("threads cannot be 0",)),
    (("--set", "machinery.replay=maybe"), ("'maybe'", "auto, off")),
    (("--set", "method.penalty=1"), ("'penalty'", "solve")),
    (("--set", "evaluation.baselines=[tfdf]"), ("no learner named 'tfdf'", "'tfidf'")),
    (("--set", "evaluation.also=[macro]"), ("no metric named 'macro'", "'macro-f1'")),
    (("--set", "format=99"), ("format 99",)),
    (("--set", "nonsense"), ("part.field=value",)),
    (("--set", "evaluation.also=[a, b[0]"), ("does not read as YAML", "quotes")),
    (("--time", "5m"), ("--time is the budget of the method auto", "leave --method out, or --time")),
    (("--set", "training.learning_rate=10"), ("learning_rate cannot be 10", "below 10")),
    (("--max-length", "1"), ("max_length 1", "between")),
    (("--max-length", "-4"), ("max_length -4",)),
    (("--max-length", "1000000"), ("max_length 1000000",)),
    (("--device", "tpu"), ("no device named 'tpu'",)),
    (("--encoding", "utf-99"), ("'utf-99'",)),
    (("--group", "nope"), ("no column 'nope'",)),
    (("--test", "absent.csv"), ("no file 'absent.csv'",)),
    (("--valid", "absent.csv"), ("no file 'absent.csv'",)),
    (("--plan", "absent.yaml"), ("absent.yaml", "--plan")),
    (("--model", "./nowhere"), ("no model './nowhere'", "all-MiniLM-L6-v2")),
    (("--out", "rows.csv"), ("a file, not a folder",)),
    (("--out", "rows.csv/run"), ("cannot be written",)),
    (("--out", "notes"), ("not empty", "mine.txt")),
]


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=[" ".join(flags) for flags, _ in FLAGS])
def test_a_setting_that_cannot_work_is_refused_before_anything_is_fitted(
    flags: tuple[str, ...], words: tuple[str, ...], whet: Command, here: Path, tiny_model: Path
) -> None:
    write_rows(here / "rows.csv")
    (here / "notes").mkdir()
    (here / "notes" / "mine.txt").write_text("kept")
    before = listing(here)
    answer = whet("finetune", "rows.csv", "--target", "label", "--model", tiny_model, *PROBE, *flags)
    assert_refused(answer, *words)
    assert listing(here) == before


def test_a_budget_that_is_no_time_and_a_depth_that_is_not_there_are_refused(
    whet: Command, here: Path, tiny_model: Path
) -> None:
    write_rows(here / "rows.csv")
    start = ("finetune", "rows.csv", "--target", "label", "--model", tiny_model, *QUICK)
    assert_refused(whet(*start, "--time", "soon"), "'soon' is not a time", "5m")
    answer = whet(*start, "--method", "top-layers", "--set", "method.count=100")
    assert_refused(answer, "3 blocks", "100", "at most 3")
    assert listing(here) == {"rows.csv"}


def test_no_target_and_no_rows_are_asked_for(whet: Command, here: Path) -> None:
    write_rows(here / "rows.csv")
    assert_refused(whet("finetune", "rows.csv", *PROBE), "No target was named", "--target label")
    assert_refused(whet("finetune", "--target", "label", *PROBE), "No rows were named", "whet finetune rows.csv")


def test_a_probe_of_pairs_is_refused_with_the_reason(whet: Command, here: Path, tiny_model: Path) -> None:
    rows = "".join(f"one {i},two {i % 7},{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (here / "pairs.csv").write_text("a,b,label\n" + rows)
    flags = ("--target", "label", "--text", "a", "--text", "b", "--model", tiny_model)
    assert_refused(whet("finetune", "pairs.csv", *flags, *PROBE), "pairs", "top-layers")
    assert listing(here) == {"pairs.csv"}


@pytest.mark.parametrize("text", ["- a\n", "data: [a, {\n", "data: 7\n", "1: 7\n", "", "data: {sourc: x}\n"])
def test_a_plan_file_that_is_none_is_refused(text: str, whet: Command, here: Path) -> None:
    (here / "plan.yaml").write_text(text)
    assert_refused(whet("finetune", "--plan", "plan.yaml"), "plan.yaml")


def test_a_test_file_with_another_header_is_refused(whet: Command, here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")
    write_rows(here / "test.csv", rows=12, header="text,labels")
    flags = ("--target", "label", "--model", tiny_model, "--test", "test.csv")
    assert_refused(whet("finetune", "rows.csv", *flags, *PROBE), "another header", "test.csv")


def test_unseen_test_classes_are_a_finding_and_count_as_wrong(whet: Command, here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")
    rows = write_rows(here / "test.csv", rows=12).read_text().replace("card number 0", "new loan")
    (here / "test.csv").write_text(rows + "a loan please,loan\nanother loan,loan\n")
    flags = ("--target", "label", "--model", tiny_model, "--test", "test.csv", "--out", "run")
    answer = whet("finetune", "rows.csv", *flags, *PROBE)
    assert answer.code == 0
    assert "loan (2)" in answer.out.replace("\n", " ")


def whole_model(folder: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": print}, folder / "pytorch_model.bin")


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "vocab.txt").unlink(missing_ok=True)


def torn_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "be')


def torn_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:300])


MODELS: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (without_weights, ("no weights",)),
    (truncated, ("model.safetensors", "truncated")),
    (pickled, ("pytorch_model.bin",)),
    (without_tokenizer, ("tokenizer",)),
    (torn_tokenizer, ("tokenizer.json", "damaged")),
    (torn_config, ("config.json",)),
]


@pytest.mark.parametrize(("spoil", "words"), MODELS, ids=[spoil.__name__ for spoil, _ in MODELS])
def test_a_damaged_model_folder_is_refused(
    spoil: Callable[[Path], None], words: tuple[str, ...], whet: Command, here: Path, tiny_model: Path
) -> None:
    write_rows(here / "rows.csv")
    spoil(whole_model(here / "model", tiny_model))
    before = listing(here)
    answer = whet("finetune", "rows.csv", "--target", "label", "--model", "model", *PROBE)
    assert_refused(answer, *words)
    assert listing(here) == before


def test_a_hub_name_without_a_network_says_what_was_tried(whet: Command, here: Path) -> None:
    write_rows(here / "rows.csv")
    began = time.monotonic()
    answer = whet("finetune", "rows.csv", "--target", "label", "--model", "no-such/encoder-anywhere", *PROBE)
    assert_refused(answer, "no-such/encoder-anywhere", "hub", "all-MiniLM-L6-v2")
    assert time.monotonic() - began < 30
    assert listing(here) == {"rows.csv"}


@pytest.fixture
def run(whet: Command, here: Path, tiny_model: Path) -> Path:
    """A finished run."""
    write_rows(here / "rows.csv")
    answer = whet("finetune", "rows.csv", "--target", "label", "--model", tiny_model, "--out", "run", *PROBE)
    assert answer.code == 0, answer.err
    return here / "run"


def test_altered_weights_of_a_run_are_noticed(run: Path, whet: Command) -> None:
    path = next((run / "model").rglob("2_Dense/model.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_refused(whet("predict", "run", "a text"), "altered")


def test_a_damaged_tokenizer_of_a_run_is_noticed(run: Path, whet: Command) -> None:
    torn_tokenizer(next((run / "model").rglob("tokenizer.json")).parent)
    assert_refused(whet("predict", "run", "a text"), "tokenizer.json", "altered")
    assert_refused(whet("evaluate", "run", "rows.csv"), "tokenizer.json", "altered")


def test_a_run_that_recorded_weights_alone_is_still_read(run: Path, whet: Command) -> None:
    path = run / "model" / "whet.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["files"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert whet("predict", "run", "a text").code == 0
    torn_tokenizer(next((run / "model").rglob("tokenizer.json")).parent)
    assert_refused(whet("predict", "run", "a text"), "tokenizer.json", "damaged")


def test_rows_in_another_encoding_are_answered_and_judged(run: Path, whet: Command, here: Path) -> None:
    content = "text,label\nзаблокирована моя карта,card\n" * 20
    (here / "cyrillic.csv").write_bytes(content.encode("koi8-r"))
    assert whet("predict", "run", "cyrillic.csv", "--out", "a.csv", "--encoding", "koi8-r").code == 0
    assert "заблокирована" in (here / "a.csv").read_text(encoding="utf-8")
    assert whet("evaluate", "run", "cyrillic.csv", "--encoding", "koi8-r").code == 0
    assert_refused(whet("predict", "run", "cyrillic.csv", "--encoding", "ascii"), "cannot be decoded")
    assert_refused(whet("predict", "run", "a text", "--encoding", "ascii"), "leave --encoding out")


def test_an_encoding_that_no_file_can_have_is_refused(run: Path, whet: Command, here: Path) -> None:
    rows = pa.table({"text": ["lost my card", "where is it"] * 10, "label": ["card", "parcel"] * 10})
    parquet.write_table(rows, here / "rows.parquet")
    for told in (("check", "rows.parquet", "--target", "label"), ("predict", "run", "rows.parquet", "--out", "a.csv")):
        assert_refused(whet(*told, "--encoding", "latin-1"), "rows.parquet", "leave the encoding out")
    assert_refused(whet("evaluate", "run", "rows.parquet", "--encoding", "latin-1"), "leave the encoding out")
    told = ("check", "rows.csv", "--target", "label", "--test", "rows.parquet", "--encoding", "latin-1")
    assert whet(*told).code == 0
    with pytest.raises(ConfigError, match="there is no text file") as raised:
        api.check(rows.to_pylist(), "label", encoding="latin-1")
    assert raised.value.args[1] == "rows in a list"


def test_whether_rows_were_learnt_from_is_said_or_said_to_be_unknown(run: Path, whet: Command, here: Path) -> None:
    def told() -> str:
        return " ".join(whet("evaluate", "run", "new.csv").out.split())

    shutil.copy(here / "rows.csv", here / "new.csv")
    learnt = json.loads((run / "story.json").read_text())["data"]["rows"]
    assert f"{learnt['train'] + learnt.get('valid', 0)} of " in told()
    assert "too good to be true" in told()
    content = (here / "rows.csv").read_text()
    (here / "rows.csv").write_text(content + content.splitlines()[1] + "\n")
    assert "cannot be told. The rows of run have changed" in told()
    (here / "rows.csv").unlink()
    assert "cannot be told. The rows of run are not there any more" in told()
    (run / "plan.yaml").write_text("format: [")
    assert "cannot be told. The plan file is not YAML" in told()
    (run / "plan.yaml").unlink()
    assert "cannot be told. Only the model" in told()


def test_a_run_whose_model_is_gone_is_not_called_unfinished(run: Path, whet: Command) -> None:
    next((run / "model").rglob("whet.json")).unlink()
    assert_refused(whet("predict", "run", "a text"), "whet.json is missing")


def test_runs_of_a_folder_that_is_not_there_are_an_error(whet: Command, here: Path) -> None:
    assert_refused(whet("runs", "nowhere"), "no such folder", "nowhere")
    assert "No runs" in whet("runs").out


def test_a_label_that_steers_a_terminal_is_shown_without(whet: Command, here: Path, tiny_model: Path) -> None:
    rows = "".join(f"text number {i} of a kind {i % 2},\x1b[31m{i % 2}\n" for i in range(60))
    (here / "rows.csv").write_text("text,label\n" + rows)
    answer = whet("finetune", "rows.csv", "--target", "label", "--model", tiny_model, "--out", "run", *PROBE)
    assert answer.code == 0, answer.err
    assert "control characters" in answer.out
    assert "\x1b[31m" not in answer.out + whet("predict", "run", "text number 3 of a kind 1").out


def test_a_finished_run_is_never_overwritten(run: Path, whet: Command, tiny_model: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ("finetune", "rows.csv", "--target", "label", "--model", tiny_model, "--out", "run", *PROBE)
    assert_refused(whet(*words), "finished run")
    assert_refused(whet(*words, "--resume"), "finished run")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_answers_bad_questions_with_the_reason(run: Path, whet: Command, here: Path) -> None:
    (here / "other.csv").write_text("txt,label\nhello,card\n")
    assert_refused(whet("predict", "run", "other.csv"), "'text'", "rename 'txt'")
    assert_refused(whet("evaluate", "run", "other.csv"), "'text'")
    assert_refused(whet("evaluate", "run", "absent.csv"), "absent.csv")
    assert_refused(whet("predict", "nowhere", "a text"), "nowhere")
    answer = whet("predict", "run", "a text", "another")
    assert_refused(answer, "reads 1 text at a time, and got 2", 'try:   whet predict run "a text"')
    assert_refused(whet("report", "nowhere"), "no finished run")
    assert_refused(whet("predict", "run", "rows.csv", "--out", "other.csv/answers.csv"), "other.csv")


def test_two_runs_into_one_folder_at_once_are_refused(whet: Command, here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")
    (here / "run" / ".work").mkdir(parents=True)
    with locked(here / "run"):
        answer = whet("finetune", "rows.csv", "--target", "label", "--model", tiny_model, "--out", "run", *PROBE)
        assert_refused(answer, "Another run is writing")
        (here / "run" / "plan.yaml").write_text("format: 1")
        answer = whet("finetune", "rows.csv", "--target", "label", "--model", tiny_model, "--out", "run", *PROBE)
        assert_refused(answer, "Another run is writing")
        assert (here / "run" / ".lock").exists()


def test_an_error_leaves_a_folder_that_was_there_and_removes_those_it_made(whet: Command, here: Path) -> None:
    (here / "mine").mkdir()
    assert_refused(whet("finetune", CORPUS / "one_class.csv", "--target", "label", "--out", "mine", *PROBE))
    assert_refused(whet("finetune", CORPUS / "one_class.csv", "--target", "label", "--out", "a/b/c", *PROBE))
    assert listing(here) == {"mine"}


def test_labels_of_every_kind_reach_the_report_as_text(whet: Command, here: Path, tiny_model: Path) -> None:
    names = ["<script>alert(1)</script>", "a, b; c", "line\none", "🙂", '"quoted" & more']
    rows = "".join(
        f'text number {i} of a kind {i % 5},"{names[i % 5].replace(chr(34), chr(34) * 2)}"\n' for i in range(100)
    )
    (here / "rows.csv").write_text("text,label\n" + rows, encoding="utf-8")
    flags = ("--target", "label", "--model", tiny_model, "--out", "run", "--set", "task.name=classification")
    answer = whet("finetune", "rows.csv", *flags, *PROBE)
    assert answer.code == 0, answer.err
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "🙂" in page
    answer = whet("predict", "run", "text number 3 of a kind 3", "--json")
    assert answer.code == 0
    assert len(json.loads(answer.out)["scores"]) == len(names)
    answer = whet("predict", "run", " ")
    assert answer.code == 0
    assert "The text is empty" in answer.err


# The rest needs a process of its own: limits, disks and signals.


def start(words: list[str], here: Path, **more: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(here.parent / "cache"), "HF_HUB_OFFLINE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "whet", *words], cwd=here, env=environment, **pipes, **more)  # type: ignore[call-overload, no-any-return]


def finished(process: "subprocess.Popen[str]") -> Answer:
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


def words_of_run(model: Path, out: str, method: str = "probe") -> list[str]:
    return [
        "finetune",
        "rows.csv",
        "--target",
        "label",
        "--model",
        str(model),
        "--out",
        out,
        "--method",
        method,
        *QUICK,
    ]


def test_a_real_process_ends_with_code_2_and_no_traceback(here: Path) -> None:
    answer = finished(start(["finetune", "absent.csv", "--target", "label"], here))
    assert_refused(answer, "There is no file 'absent.csv'")


def test_a_file_size_limit_while_writing_leaves_nothing(here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    answer = finished(start(words_of_run(tiny_model, "run"), here, preexec_fn=limit))
    assert_refused(answer, "run")
    assert listing(here) == {"rows.csv"}


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A disk of 200 KB, where this process may mount one."""
    with mounted(here / "disk", "200k") as disk:
        yield disk


def test_a_run_that_its_disk_cannot_hold_is_refused_while_planning(
    small_disk: Path, whet: Command, here: Path, tiny_model: Path
) -> None:
    write_rows(here / "rows.csv")
    answer = whet(*words_of_run(tiny_model, "disk/run", "full"))
    assert_refused(answer, "The run will write about", "are free", "disk/run")
    assert listing(small_disk) == set()


def test_a_full_disk_while_writing_leaves_nothing(small_disk: Path, here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")
    answer = finished(start(words_of_run(tiny_model, "disk/run"), here))
    assert_refused(answer, "disk/run")
    assert listing(small_disk) == set()
