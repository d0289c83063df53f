"""Answers: in order whatever the order, windows averaged, pairs, empty texts, missing columns, no training code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from whet.data.rows import Rows
from whet.deploy import predictor as room
from whet.deploy.predictor import RECORDED, Predictor
from whet.errors import ConfigError, DataError, MachineError, ModelError
from whet.testing import tiny_rows, tiny_text_model

from .make import STATES, TEXTS, Packaged, packaged, tamper

LONG = "refund my invoice please " * 60


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Packaged:
    return packaged(tmp_path_factory.mktemp("run") / "model", tiny_model)


@pytest.fixture(scope="module")
def predictor(one: Packaged) -> Predictor:
    return Predictor.load(one.folder)


def test_no_training_code_is_imported_to_answer(one: Packaged) -> None:
    script = f"""
import sys
from pathlib import Path
from whet.deploy.predict_file import predict_file
from whet.deploy.predictor import Predictor
Predictor.load(Path({str(one.folder)!r})).predict(["refund"])
rooms = ("training", "learners", "methods", "search", "evaluation", "run", "plan", "api")
print([name for name in sys.modules if name.startswith(tuple(f"whet.{{room}}" for room in rooms))])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_folder_stands_for_its_model(one: Packaged, predictor: Predictor) -> None:
    assert Predictor.load(one.folder.parent).predict(TEXTS) == predictor.predict(TEXTS)


def test_shuffled_rows_give_shuffled_answers(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", 16)
    monkeypatch.setattr(room, "MOST_TOKENS", 64)
    rows, _ = tiny_rows("classification", 60)
    order = np.random.default_rng(1).permutation(len(rows))
    straight, shuffled = predictor.answer(rows), predictor.answer(rows.select(order))
    np.testing.assert_array_equal(shuffled.row_ids, order)
    np.testing.assert_allclose(shuffled.scores, straight.scores[order], rtol=1e-4, atol=1e-6)


def test_the_windows_of_a_long_text_are_averaged(predictor: Predictor) -> None:
    windows = predictor.processor.encode([(LONG,)])
    assert len(windows.value) > 3
    each = []
    for place in range(len(windows.value)):
        batch = {name: ragged.take(np.array([place])) for name, ragged in windows.inputs.items()}
        each.append(predictor.model(**predictor.processor.collate(batch)).detach().numpy()[0])
    np.testing.assert_allclose(predictor.outputs([(LONG,)])[0], np.mean(each, axis=0), rtol=1e-4)
    beside = predictor.outputs([("login",), (LONG,), ("",)])
    np.testing.assert_allclose(beside[1], np.mean(each, axis=0), rtol=1e-4)


def test_pairs_are_read_jointly(tmp_path: Path) -> None:
    one = packaged(tmp_path / "model", tiny_text_model(tmp_path / "pairs", pairs=True), pairs=True)
    predictor = Predictor.load(one.folder)
    straight, swapped = predictor.predict_proba([("refund", "login")]), predictor.predict_proba([("login", "refund")])
    assert not np.allclose(straight, swapped)
    rows, _ = tiny_rows("classification", 5, pairs=True)
    values = list(zip(rows.values("text"), rows.values("other"), strict=True))
    np.testing.assert_allclose(predictor.answer(rows).scores, predictor.predict_proba(values), rtol=1e-5)
    with pytest.raises(DataError, match="2 texts"):
        predictor.predict(["only one"])


def test_every_kind_of_rows_gets_the_same_answers(predictor: Predictor) -> None:
    records = [{"text": text, "id": number} for number, text in enumerate(TEXTS)]
    wanted = predictor.predict(TEXTS)
    for rows in (records, pd.DataFrame(records), Rows(pa.Table.from_pylist(records), "rows"), np.array(TEXTS)):
        assert predictor.predict(rows) == wanted
    assert predictor.predict(pd.Series(TEXTS)) == wanted


def test_empty_and_missing_texts_get_an_answer(predictor: Predictor) -> None:
    assert predictor.predict(["", None, "   "])[0] in predictor.labels
    np.testing.assert_array_equal(*predictor.predict_proba(["", None]))
    assert predictor.predict([]) == []
    assert predictor.predict_proba([]).shape == (0, 3)


def test_probabilities_follow_the_labels(predictor: Predictor) -> None:
    scores = predictor.predict_proba(TEXTS)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert predictor.predict(TEXTS) == [predictor.labels[place] for place in scores.argmax(1)]
    assert predictor.labels == tuple(STATES["classification"]["labels"])


def test_several_labels_follow_their_thresholds(tmp_path: Path, tiny_model: Path) -> None:
    predictor = Predictor.load(packaged(tmp_path / "model", tiny_model, task="multi-label").folder)
    scores = predictor.predict_proba(TEXTS)
    wanted = [[name for name, score, at in zip("xy", row, (0.3, 0.6), strict=True) if score >= at] for row in scores]
    assert predictor.predict(TEXTS) == wanted


def test_a_regression_has_no_probabilities(tmp_path: Path, tiny_model: Path) -> None:
    predictor = Predictor.load(packaged(tmp_path / "model", tiny_model, task="regression").folder)
    assert all(isinstance(value, float) for value in predictor.predict(TEXTS))
    with pytest.raises(ConfigError, match="no probabilities"):
        predictor.predict_proba(TEXTS)


def test_half_precision_answers_nearly_alike(one: Packaged, predictor: Predictor) -> None:
    half = Predictor.load(one.folder, precision="bfloat16").predict_proba(TEXTS)
    np.testing.assert_allclose(half, predictor.predict_proba(TEXTS), atol=0.05)


def test_a_missing_column_names_the_nearest(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"'text'.*missing") as caught:
        predictor.predict([{"texts": "refund", "id": 1}])
    assert "'texts'" in caught.value.fix


@pytest.mark.parametrize("values", ["refund", ["refund", 3], [("a", "b")]])
def test_values_of_another_kind_are_refused(predictor: Predictor, values: object) -> None:
    with pytest.raises(DataError):
        predictor.predict(values)


def test_an_unknown_device_is_refused(one: Packaged) -> None:
    with pytest.raises(MachineError, match="device"):
        Predictor.load(one.folder, device="nonsense")


def test_a_record_that_lacks_a_part_or_has_another_in_its_place_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    one = packaged(tmp_path / "model", tiny_model)
    path = one.folder / "whet.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    for name in RECORDED:
        for wrong in (None, 3.5, ["a"], {"a": 1}):
            record = {**whole, name: wrong}
            if wrong is None:
                del record[name]
            elif isinstance(wrong, dict) and name == "state":
                continue  # a state is whatever its task makes of it
            path.write_text(json.dumps(record), encoding="utf-8")
            with pytest.raises(ModelError, match="damaged"):
                Predictor.load(one.folder)


def test_folders_without_a_packaged_model_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"whet\.json is missing"):
        Predictor.load(tiny_model)
    one = packaged(tmp_path / "model", tiny_model)
    record = one.folder / "whet.json"
    text = record.read_text()
    record.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ModelError, match="later whet"):
        Predictor.load(one.folder)
    record.write_text(text[:100])
    with pytest.raises(ModelError, match="damaged"):
        Predictor.load(one.folder)
    record.write_text(text)
    tamper(one.folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match="altered"):
        Predictor.load(one.folder)
