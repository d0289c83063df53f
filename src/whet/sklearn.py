"""whet as a scikit-learn estimator: ``TextClassifier`` for pipelines, cross-validation and grid search.

Fitting uses every row it is given: no test rows are held out and no verdict is made, since whoever calls (a
cross-validation, say) keeps rows of its own to judge by. For the verdict use ``whet.finetune``.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from whet.api import is_auto
from whet.backbones.own_module import Module
from whet.checking import Objects
from whet.data.markers import LITERAL
from whet.data.tables import column_of, text_of, whole_characters
from whet.deploy.predictor import Predictor
from whet.errors import DataError, RunError
from whet.evaluation.metric import Metric
from whet.folder import PLAN, WORK, discard, remove_empty
from whet.learners.fitted import NeuralFitted, drain
from whet.request import own_metric, partial_plan
from whet.resolve import Prepared, prepare
from whet.run import Clock, encode, fit_method, to_learn, write_model
from whet.search.ladder import climb
from whet.training.settings import Training

Array = np.ndarray[Any, Any]
TEXT, LABEL = "text", "label"


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A pre-trained encoder fine-tuned to classes.

    Args:
        method: "probe", "top-layers", "full", "auto", or an object of ``whet.methods``. Methods of gradient steps
            take all the steps of their plan on all rows; "auto" sets validation rows aside to choose by where they
            are enough for that.
        model: A name, a folder or a hub id; None is the packaged encoder.
        seed: Of every random draw.
        metric: What "auto" chooses by.
        training: Settings of the gradient steps.
        time: Budget of "auto", in seconds or as "5m".
        settings: "part.field=value" for any field of the plan.
        out: A new folder that keeps the plan and the model, for ``whet.load``; None keeps them in memory only.

    Attributes:
        classes_: (K,) the classes, sorted.
        predictor_: The fitted model, as ``whet.load`` gives it.
    """

    def __init__(
        self,
        method: Any = "probe",
        model: str | Path | Module | None = None,
        seed: int = 0,
        metric: str | Metric | Callable[[Any, Any], float] | None = None,
        *,
        training: Training | None = None,
        max_length: int | None = None,
        device: str | None = None,
        time: float | str | None = None,
        settings: Sequence[str] = (),
        out: str | Path | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.seed = seed
        self.metric = metric
        self.training = training
        self.max_length = max_length
        self.device = device
        self.time = time
        self.settings = settings
        self.out = out

    def fit(self, X: Any, y: Any) -> "TextClassifier":  # noqa: N803 - scikit-learn's name
        """Learn from texts (N,) and their classes (N,).

        Raises:
            DataError: not one text and one class a row, or fewer than two classes.
            RunError: ``out`` is not empty.
        """
        texts, targets = texts_of(X), np.asarray(y)
        if targets.shape != (len(texts),):
            raise DataError(
                f"There are {len(texts):,} texts and targets of shape {targets.shape}.", where="y", fix="give one each"
            )
        self.classes_, codes = classes_of(targets)
        names = names_of(self.classes_)
        fields = [pa.field(TEXT, pa.string()), pa.field(LABEL, pa.string(), metadata=LITERAL)]
        columns = [column_of(texts, "text"), column_of([names[code] for code in codes], "text")]
        rows = pa.table(columns, schema=pa.schema(fields))
        with (
            tempfile.TemporaryDirectory(prefix="whet-") as place,
            filled(Path(place if self.out is None else self.out)) as folder,
        ):
            prepared = self._prepare(rows, Path(place) / WORK)
            lost = [name for name in names if name not in prepared.state["labels"]]
            if lost:
                raise DataError(
                    f"No row of the class {lost[0]!r} can be learnt from: its texts are empty, or other classes' too.",
                    where="X",
                    fix="leave the class out, or give it texts of its own",
                )
            write_model(prepared, fit_all(prepared), folder)
            prepared.plan.write(folder / PLAN)
            self.predictor_ = Predictor.load(folder, device=prepared.plan.machinery.device)
        self._columns = [self.predictor_.labels.index(name) for name in names]
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """(N,) the likeliest class of each text."""
        found = self.predict_proba(X)
        return np.asarray(self.classes_[found.argmax(axis=1)])

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """(N, K) probabilities, columns in the order of ``classes_``."""
        check_is_fitted(self)
        found = self.predictor_.predict_proba(texts_of(X))[:, self._columns]
        known = len(self.predictor_.labels) == len(self._columns)  # a model of an earlier run may know other classes
        return found if known else np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12))

    def _prepare(self, rows: pa.Table, scratch: Path) -> Prepared:
        wanted = partial_plan(
            None, LABEL, text=TEXT, model=self.model, method=self.method, seed=self.seed, metric=self.metric,
            training=self.training, max_length=self.max_length, device=self.device, time=self.time,
            settings=self.settings,
        )  # fmt: skip
        wanted.setdefault("task", {"name": "classification"})
        if self.method != "auto":
            wanted["data"].setdefault("valid_fraction", 0.0)
        # A plan has test rows; given ones keep it from drawing any, and these are never judged.
        return prepare(wanted, Objects(rows=rows, tests={"unused": rows}, metric=own_metric(self.metric)), scratch)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def fit_all(prepared: Prepared) -> NeuralFitted:
    """Fit the plan's method, or climb its ladder; judge nothing."""
    rows = drain(encode(prepared, Clock()))
    if is_auto(prepared):
        found: NeuralFitted = drain(climb(prepared, rows, None)).fitted
        return found
    plan = prepared.plan
    fitted: NeuralFitted = drain(fit_method(prepared, plan.method, plan.training, to_learn(rows, plan.method), None))
    return fitted


def texts_of(values: Any) -> list[str]:
    """Texts from a list, an array (N,) or (N, 1), a Series or a frame of one column; a missing one is empty.

    Raises:
        DataError: several columns, one bare text, or a value that is no text.
    """
    if isinstance(values, str):
        raise DataError("A list of texts is needed, got one text.", where="X", fix="give [text]")
    found = np.asarray(values, dtype=object)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise DataError(f"One text a row is needed, got shape {found.shape}.", where="X", fix="choose one column")
    for number, value in enumerate(found):
        if not isinstance(value, str) and value is not None and value == value:  # NaN is missing
            raise DataError(
                f"A text is needed, got {str(value)[:60]!r} ({type(value).__name__}).",
                where=f"X, row {number + 1}",
                fix="give texts; other columns need an estimator of their own",
            )
    return [value if isinstance(value, str) else "" for value in found]


def classes_of(targets: Array) -> tuple[Array, Array]:
    """(K,) the classes, sorted, and (N,) which of them each row has.

    Raises:
        DataError: a row has none, or they are of types that have no common order.
    """
    for number, value in enumerate(targets.tolist()):
        if value is None or (isinstance(value, float) and value != value):
            raise DataError(
                f"The class is missing: {value!r}.",
                where=f"y, row {number + 1}",
                fix="give the row a class, or leave it out of X and y",
            )
    try:
        classes, codes = np.unique(targets, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in targets.tolist()})
        raise DataError(
            f"The classes are of types that cannot be sorted together: {', '.join(kinds)}.",
            where="y",
            fix="write all of them in one way, such as text",
        ) from error
    return classes, codes


def names_of(classes: Array) -> list[str]:
    """The name that each class has in the model.

    Raises:
        DataError: two classes read the same, or one has no visible character.
    """
    names = [whole_characters(text_of(value)) for value in classes.tolist()]  # as every reader writes them
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise DataError(
            f"The classes cannot be told apart by their names: {names[:10]}.", where="y", fix="rename the classes"
        )
    return names


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """An empty folder to keep a model in, made if need be; what is refused meanwhile leaves nothing of ours in it.

    Raises:
        RunError: it holds something, or cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = next(folder.iterdir(), None)
    except OSError as error:
        remove_empty(made)
        raise RunError(
            f"The folder cannot be written: {error.strerror}.", where=str(folder), fix="choose another `out`"
        ) from error
    if taken is not None:
        raise RunError(
            f"The folder is not empty: it holds {taken.name!r}.", where=str(folder), fix="choose another `out`"
        )
    try:
        yield folder
    except BaseException:
        discard(folder, made)
        raise
