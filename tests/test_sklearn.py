"""Does the estimator keep scikit-learn's manners, on the packaged encoder?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import whet
from plain import PLAIN
from whet.errors import ConfigError, DataError, RunError, WhetError
from whet.plan import Plan
from whet.sklearn import TextClassifier

ASKED = {
    "refund": ("I want my money back", "please refund the order", "when is my payment returned", "refund me now"),
    "parcel": ("where is my parcel", "the delivery is late", "my package has not arrived", "courier lost the box"),
    "login": ("I cannot sign in", "my password does not work", "the account is locked", "reset my login please"),
}
ENDINGS = ("", ", thanks", "!!", " - it is urgent", ". Number 4471")
TEXTS = [text + ending for ending in ENDINGS for several in ASKED.values() for text in several]
NAMES = [name for _ in ENDINGS for name, several in ASKED.items() for _ in several]


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return TextClassifier(settings=PLAIN).fit(TEXTS, NAMES)


def test_it_answers_in_the_order_of_its_classes(fitted: TextClassifier) -> None:
    asked = ["give me my money", "the parcel did not come", "password forgotten"]
    assert fitted.classes_.tolist() == ["login", "parcel", "refund"]
    assert fitted.predict(asked).tolist() == ["refund", "parcel", "login"]
    found = fitted.predict_proba(asked)
    assert found.shape == (3, 3)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert fitted.classes_[found.argmax(axis=1)].tolist() == ["refund", "parcel", "login"]
    assert fitted.score(TEXTS, NAMES) > 0.9


def test_every_row_given_is_learnt_from(fitted: TextClassifier) -> None:
    assert sum(fitted.predictor_.state["counts"]) == len(TEXTS)


def test_cross_validation_and_pipelines_take_it() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", TextClassifier(settings=PLAIN))])
    scores = cross_val_score(pipeline, np.array(TEXTS), np.array(NAMES), cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.8


def test_a_grid_search_sets_its_parameters(tiny_model: Path) -> None:
    search = GridSearchCV(TextClassifier(model=str(tiny_model), settings=PLAIN), {"seed": [0, 1]}, cv=2, refit=False)
    search.fit(TEXTS[:24], NAMES[:24])
    assert search.best_params_["seed"] in (0, 1)


def test_a_clone_has_the_same_parameters_and_is_not_fitted(fitted: TextClassifier) -> None:
    method = whet.methods.TopLayers(1)
    copy = clone(TextClassifier(method, seed=3, settings=("training.epochs=1",)))
    assert copy.get_params()["method"] == method
    assert copy.get_params()["seed"] == 3
    with pytest.raises(NotFittedError):
        clone(fitted).predict(["a text"])


@pytest.mark.parametrize("method", ["top-layers", "auto"])
def test_methods_that_take_steps_fit_too(method: str, tiny_model: Path) -> None:
    model = TextClassifier(method, model=tiny_model, settings=(*PLAIN, "training.epochs=1")).fit(TEXTS, NAMES)
    assert model.predict_proba(TEXTS[:4]).shape == (4, 3)


def test_classes_that_are_numbers_stay_numbers(tiny_model: Path) -> None:
    pandas = pytest.importorskip("pandas")
    numbers = pandas.Series([{"refund": 10, "parcel": 2, "login": -1}[name] for name in NAMES])
    model = TextClassifier(model=tiny_model, settings=PLAIN).fit(pandas.Series(TEXTS), numbers)
    assert model.classes_.tolist() == [-1, 2, 10]  # and not the order of their names
    assert set(model.predict(TEXTS).tolist()) <= {-1, 2, 10}
    order = [model.predictor_.labels.index(name) for name in ("-1", "2", "10")]
    assert np.array_equal(model.predict_proba(TEXTS), model.predictor_.predict_proba(TEXTS)[:, order])


def test_classes_that_look_like_a_missing_value_are_classes(tiny_model: Path) -> None:
    names = ["none" if name == "login" else str(number) for name in NAMES for number in [int(name == "refund")]]
    model = TextClassifier(model=tiny_model, settings=PLAIN).fit(TEXTS, names)
    assert model.classes_.tolist() == ["0", "1", "none"]
    assert sorted(model.predictor_.labels) == ["0", "1", "none"]


@pytest.mark.parametrize("classes", [(1.0, 2.0, 1.5), (True, False, True)], ids=["numbers", "truths"])
def test_a_kept_model_is_judged_by_the_classes_as_files_write_them(
    classes: tuple[Any, ...], tiny_model: Path, tmp_path: Path
) -> None:
    given = dict(zip(("refund", "parcel", "login"), classes, strict=True))
    targets = [given[name] for name in NAMES]
    model = TextClassifier(model=tiny_model, settings=PLAIN, out=tmp_path / "kept").fit(TEXTS, targets)
    rows = [{"text": text, "label": target} for text, target in zip(TEXTS, targets, strict=True)]
    found = {one.metric: one.value for one in whet.evaluate(tmp_path / "kept", rows).scores["model"]}
    assert found["accuracy"] == pytest.approx(np.mean(model.predict(TEXTS) == np.array(targets)))
    assert found["accuracy"] > 0.5
    with pytest.raises(ConfigError, match="lists in 'label'"):
        whet.evaluate(tmp_path / "kept", [row | {"label": [row["label"]]} for row in rows])


def test_a_folder_keeps_what_was_fitted_and_is_never_overwritten(tiny_model: Path, tmp_path: Path) -> None:
    model = TextClassifier(model=tiny_model, settings=PLAIN, out=tmp_path / "kept").fit(TEXTS, NAMES)
    assert whet.load(tmp_path / "kept").predict(TEXTS[:5]) == model.predict(TEXTS[:5]).tolist()
    with pytest.raises(RunError, match="not empty"):
        TextClassifier(model=tiny_model, settings=PLAIN, out=tmp_path / "kept").fit(TEXTS, NAMES)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fails", ["settings", "rows", "package"])
def test_a_refused_fit_leaves_no_folder_that_it_made(
    fails: str, there: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "deep" / "kept"
    if there:
        out.mkdir(parents=True)
    if fails == "package":
        monkeypatch.setattr(Plan, "write", full)
    settings = [*PLAIN, "training.nothing=1"] if fails == "settings" else PLAIN
    with pytest.raises((WhetError, OSError)):
        TextClassifier(model=tiny_model, settings=settings, out=out).fit(
            TEXTS, NAMES[:1] * 60 if fails == "rows" else NAMES
        )
    assert [path.name for path in tmp_path.rglob("*")] == (["deep", "kept"] if there else [])


@pytest.mark.parametrize(
    ("texts", "targets", "words"),
    [
        ("one text", ["a"], "got one text"),
        (["a", "b"], ["x"], "2 texts"),
        ([["a", "b"], ["c", "d"]], ["x", "y"], "shape"),
        (["a", 3.5], ["x", "y"], "3.5"),
        (["a", "b"], ["x", " "], "told apart"),
        (["a", "b"], ["x\ud83d", "x\ud83e"], "told apart"),
        (["a", "b", "c"], ["x", "x", "x"], "one class"),
        (["a", "b", "c"], ["x", "y", None], "y, row 3"),
        (["a", "b", "c"], [None] * 3, "y, row 1"),
        (["a", "b", "c"], [1.0, float("nan"), 2.0], "y, row 2"),
        (["a", "b"], np.array(["x", 1], dtype=object), "types that cannot be sorted together: int, str"),
        (["", None, *TEXTS[:8]], ["lost", "lost", *"ababababab"[:8]], "No row of the class 'lost' can be"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(texts: Any, targets: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        TextClassifier().fit(texts, targets)
