"""A file in, the same rows with answers out: every column kept, nothing half-written."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whet import atomic
from whet.deploy import predict_file as room
from whet.deploy.predict_file import predict_file
from whet.deploy.predictor import Predictor
from whet.errors import ConfigError, DataError, RunError

from .make import TEXTS, packaged


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Predictor:
    return Predictor.load(packaged(tmp_path_factory.mktemp("run") / "model", tiny_model).folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate([*TEXTS, 'two\nlines, "quoted"'])])
    return path


def records(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_every_row_and_column_comes_back_with_its_answer(predictor: Predictor, source: Path, suffix: str) -> None:
    texts = [*TEXTS, 'two\nlines, "quoted"']
    done = predict_file(predictor, source, source.with_name("new") / f"out{suffix}")
    found = records(done.path)
    assert [row["text"] or "" for row in found] == texts
    assert [row["id"] for row in found] == [str(number) for number in range(len(texts))]
    assert [row["predicted"] for row in found] == predictor.predict(texts)
    assert (done.rows, done.empty) == (len(texts), 1)
    for row, scores in zip(found, predictor.predict_proba(texts), strict=True):
        assert float(row["confidence"]) == pytest.approx(max(scores), rel=1e-4)
        given = row.get("probabilities") or {name: row[f"probability of {name}"] for name in predictor.labels}
        assert [float(given[name]) for name in predictor.labels] == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-12)


def test_without_a_name_the_answers_lie_beside_the_rows(predictor: Predictor, source: Path) -> None:
    assert predict_file(predictor, source).path == source.with_name("in.predicted.csv")
    lines = source.with_name("rows.jsonl")
    lines.write_text('{"text": "refund", "tags": ["a"]}\n')
    done = predict_file(predictor, lines)
    assert done.path.name == "rows.predicted.jsonl"
    assert records(done.path)[0]["tags"] == ["a"]


def test_names_that_are_taken_are_left_alone(predictor: Predictor, source: Path) -> None:
    source.write_text("text,predicted,confidence\nrefund,mine,7\n")
    found = records(predict_file(predictor, source).path)[0]
    assert (found["predicted"], found["confidence"]) == ("mine", "7")
    assert found["whet_predicted"] in predictor.labels


def test_types_that_csv_lacks_become_text(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    rows = [{"text": "refund", "tags": ["a", "b"], "score": float("nan"), "none": None, "sum": 1}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    as_csv = records(predict_file(predictor, path, tmp_path / "out.csv").path)[0]
    assert (as_csv["tags"], as_csv["none"], as_csv["sum"]) == ('["a", "b"]', "", "1")
    as_json = records(predict_file(predictor, path, tmp_path / "out.jsonl").path)[0]
    assert (as_json["tags"], as_json["score"], as_json["none"], as_json["sum"]) == (["a", "b"], None, None, 1)


def test_above_a_hundred_labels_only_the_likeliest_are_listed(
    predictor: Predictor, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_LISTED", 2)
    monkeypatch.setattr(room, "LIKELIEST", 2)
    for name in ("out.csv", "out.jsonl"):
        row = records(predict_file(predictor, source, source.with_name(name)).path)[0]
        listed = row["probabilities"]
        listed = json.loads(listed) if isinstance(listed, str) else listed
        assert next(iter(listed)) == row["predicted"]
        assert len(listed) == 2


def test_several_labels_and_numbers(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    several = Predictor.load(packaged(tmp_path / "several", tiny_model, task="multi-label").folder)
    answers = several.predict(TEXTS)
    found = records(predict_file(several, source, tmp_path / "several.csv").path)
    assert [row["predicted"] for row in found][: len(TEXTS)] == [";".join(answer) for answer in answers]
    found = records(predict_file(several, source, tmp_path / "several.jsonl").path)
    assert [row["predicted"] for row in found][: len(TEXTS)] == answers
    numbers = Predictor.load(packaged(tmp_path / "numbers", tiny_model, task="regression").folder)
    done = predict_file(numbers, source, tmp_path / "numbers.csv")
    assert done.columns == ("predicted",)
    assert [float(row["predicted"]) for row in records(done.path)][:5] == pytest.approx(
        numbers.predict(TEXTS), rel=1e-4
    )


def test_what_cannot_be_done_leaves_nothing(
    predictor: Predictor, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(ConfigError, match="cannot be written as"):
        predict_file(predictor, source, source.with_name("out.xlsx"))
    with pytest.raises(ConfigError, match="replace the rows"):
        predict_file(predictor, source, source)
    wrong = source.with_name("wrong.csv")
    wrong.write_text("txt\nrefund\n")
    with pytest.raises(DataError, match="'text'"):
        predict_file(predictor, wrong)
    wrong.unlink()
    with pytest.raises(DataError):
        predict_file(predictor, source.with_name("missing.csv"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        predict_file(predictor, source)
    assert sorted(source.parent.iterdir()) == before


MEASURE = """
import resource, sys
from pathlib import Path
from whet.deploy.predict_file import predict_file
from whet.deploy.predictor import Predictor
predictor = Predictor.load(Path(sys.argv[1]))
for source in sys.argv[2:]:
    print(predict_file(predictor, source).rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, tiny_model: Path) -> None:
    folder = packaged(tmp_path / "model", tiny_model).folder
    for name, count in (("few", 5_000), ("many", 50_000)):
        with (tmp_path / f"{name}.csv").open("w") as file:
            file.write("text\n")
            file.writelines(f"refund {number} {'x' * 200}\n" for number in range(count))
    paths = [str(tmp_path / f"{name}.csv") for name in ("few", "many")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), *paths], capture_output=True, text=True, check=True
    )
    (few, first), (many, second) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (5_000, 50_000)
    assert second - first < 40_000  # kilobytes; the 45,000 rows more are 10 MB as text and 80 MB as Python values
