"""TF-IDF of words and character pieces, and a linear model: the cheap baseline that is often hard to beat.

Words 1-2 and characters 2-4 within words, sublinear counts (across words, characters gained 0.6 points on sst2, lost
0.2 on banking77 and cost a fifth more); one-versus-rest logistic regression for classes and labels, ridge regression
for numbers. The penalty comes from 3-fold cross-validation. What differs from the textbook, to bound time and memory:

- at most 100,000 rows and 5 million characters are fitted, a seeded sample; a text counts up to 20,000 characters;
- pieces and their document frequencies are learnt once for all folds (targets are not involved), from up to 1.5 million
  characters, in which a piece that helps is seldom missing;
- folds are solved less exactly than the final model, which starts from the mean of their weights;
- of two texts, the pieces of each, how they differ and their two cosines are features, because a linear model cannot
  compare otherwise (0.77 on medical question pairs, 0.67 without, 0.61 as one joined text).

Source: Wang & Manning 2012, "Baselines and Bigrams", for how strong such models are on short texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.data.rows import Rows
from whet.learners.learner import Array, Learner, Material
from whet.learners.one_versus_rest import sigmoid, solve_labels
from whet.tasks.predictions import Kind, Predictions

MOST_ROWS = 100_000
MOST_CHARACTERS = 5_000_000
VOCABULARY_CHARACTERS = 1_500_000
LONGEST_TEXT = 20_000
MOST_PIECES = 2**17  # of words, and of characters, apart
RARE_FROM = 1_000  # from so many rows on, a piece must occur in two of them
FOLDS = 3
FOLD_STEPS = 6
RIDGE_PENALTIES = (0.1, 1.0, 10.0)
RIDGE_STEPS = 100
BATCH = 4096
PURPOSE = 0x7F1DF

Texts = list[list[str]]  # one list a text column


@dataclass(frozen=True, kw_only=True)
class TfidfLinear(Learner):
    """TF-IDF features and a linear model.

    Args:
        penalties: Values of C to choose from; larger fits closer.
    """

    penalties: tuple[float, ...] = (1.0, 10.0)

    def share(self, rows: int, characters: int) -> float:
        return min(1.0, MOST_ROWS / max(1, rows), MOST_CHARACTERS / max(1, characters))

    def fit(self, material: Material) -> "FittedTfidf":
        """Counts pieces, chooses the penalty by cross-validation, solves."""
        rng = np.random.default_rng([PURPOSE, material.seed])
        kind, inputs = material.task.kind, material.columns.inputs
        chosen = sample_rows(material.train, inputs, rng)
        texts = texts_of(material.train.select(chosen), inputs)
        vectors = TextVectors(len(texts[0]))
        features, targets = vectors.learn(texts), material.targets[chosen]
        labels = tuple(str(label) for label in material.state.get("labels", ()))
        folds = rng.permutation(len(chosen)) % FOLDS
        if kind == "regression":
            return FittedTfidf(kind, labels, inputs, vectors, ridge(features, targets.astype(np.float64), folds), 0.0)
        if kind == "classification":
            features, targets = features[targets >= 0], targets[targets >= 0]
            wanted = one_hot(targets, len(labels))
        else:
            wanted = targets.astype(np.float32)
        weights, threshold = choose_and_solve(kind, features, wanted, folds[: len(wanted)], self.penalties)
        return FittedTfidf(kind, labels, inputs, vectors, weights, threshold)


@dataclass(frozen=True, eq=False)
class FittedTfidf:
    """A linear model of TF-IDF features.

    Shapes:
        weights: (F, K) float32; F counts a constant last feature. Two classes have one column, regression too.
        threshold: Multi-label: the probability from which a label is decided.
    """

    kind: Kind
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    vectors: "TextVectors"
    weights: Array
    threshold: float

    def predict(self, rows: Rows) -> Predictions:
        """Answers, 4,096 rows at a time."""
        outputs = [
            self.vectors.of([list(map(shortened, column)) for column in texts]) @ self.weights
            for texts in batches_of(rows, self.inputs)
        ]
        logits = np.concatenate(outputs) if outputs else np.zeros((0, self.weights.shape[1]), np.float32)
        if self.kind == "regression":
            return Predictions(self.kind, rows.ids, logits.astype(np.float64), logits[:, 0].astype(np.float64))
        scores = probabilities(self.kind, logits)
        decided = scores.argmax(axis=1) if self.kind == "classification" else scores >= self.threshold
        return Predictions(self.kind, rows.ids, scores, decided, self.labels)


class TextVectors:
    """Counts of pieces as sparse rows: fitted once, then the same for every text.

    Args:
        rows: How many rows it will learn from.
    """

    def __init__(self, rows: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        shared = {
            "sublinear_tf": True,
            "dtype": np.float32,
            "min_df": 2 if rows >= RARE_FROM else 1,
            "max_features": MOST_PIECES,
        }
        self.counters: list[Any] = [
            TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", **shared),
            TfidfVectorizer(ngram_range=(2, 4), analyzer="char_wb", **shared),
        ]

    def learn(self, texts: Texts) -> Any:
        """The vocabulary, from every so many-th row where texts are more than 1.5 million characters, and (N, F) the
        features of all texts."""
        size = sum(len(text) for column in texts for text in column)
        stride = -(-size // VOCABULARY_CHARACTERS) or 1
        known = [text for column in texts for text in column[::stride]]
        found = [(counter, _learnt(counter, known)) for counter in self.counters]
        self.counters = [counter for counter, counted in found if counted is not None]
        if stride == 1 and len(texts) == 1:
            return _features([[counted] for _, counted in found if counted is not None], len(texts[0]))
        return self.of(texts)

    def of(self, texts: Texts) -> Any:
        """(N, F) float32 CSR, counted a few thousand rows at a time, which halves the peak of memory."""
        from scipy.sparse import vstack

        parts = []
        for begin in range(0, len(texts[0]), BATCH):
            batch = [column[begin : begin + BATCH] for column in texts]
            counted = [[counter.transform(column) for column in batch] for counter in self.counters]
            parts.append(_features(counted, len(batch[0])))
        return vstack(parts, format="csr")


def _learnt(counter: Any, texts: list[str]) -> Any:
    """Learns the vocabulary in place and counts; None where there is not a single piece, as in nothing but blanks."""
    try:
        return counter.fit_transform(texts)
    except ValueError:
        return None


def choose_and_solve(
    kind: Kind, features: Any, wanted: Array, folds: Array, penalties: tuple[float, ...]
) -> tuple[Array, float]:
    """The weights under the penalty whose held-out answers are best, and the best threshold of labels.

    Best is accuracy for classes, micro-F1 for labels; among equals the first penalty.

    Args:
        features: (N, F) sparse.
        wanted: (N, K) float32 of 0 and 1; K is 1 for two classes.
        folds: (N,) the fold that holds a row out.
    """

    def solve_fold(fold: int) -> list[tuple[Array, Array]]:
        kept, held, found = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold), []
        part, weights = features[kept], None
        for penalty in penalties:
            weights = solve_labels(part, wanted[kept], penalty, start=weights, steps=FOLD_STEPS)
            found.append((weights, features[held] @ weights))
        return found

    solved = [solve_fold(fold) for fold in range(FOLDS)]
    truth = np.concatenate([wanted[folds == fold] for fold in range(FOLDS)])
    judged = [
        _held_out(kind, np.concatenate([fold[place][1] for fold in solved]), truth) for place in range(len(penalties))
    ]
    best = max(range(len(penalties)), key=lambda place: judged[place][0])
    start = np.asarray(sum(fold[best][0] for fold in solved) / np.float32(FOLDS), np.float32)
    return solve_labels(features, wanted, penalties[best], start=start), judged[best][1]


def ridge(features: Any, targets: Array, folds: Array) -> Array:
    """(F, 1) float32 weights under the penalty with the least held-out squared error; the mean is not penalised."""
    from scipy.sparse.linalg import lsqr

    def solve(rows: Array, penalty: float) -> Array:
        mean = targets[rows].mean()
        found = lsqr(features[rows], targets[rows] - mean, damp=np.sqrt(penalty), iter_lim=RIDGE_STEPS)[0]
        found[-1] += mean
        return np.asarray(found, np.float32)[:, None]

    def error(penalty: float) -> float:
        total = 0.0
        for fold in range(FOLDS):
            kept, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            off = (features[held] @ solve(kept, penalty))[:, 0] - targets[held] if len(kept) else np.zeros(0)
            total += float(off @ off)
        return total

    return solve(np.arange(len(targets)), min(RIDGE_PENALTIES, key=error))


def probabilities(kind: Kind, logits: Array) -> Array:
    """(N, K): a sigmoid of each label; for classes they are divided by their sum, and two classes share one logit."""
    scores: Array = sigmoid(logits)
    if kind != "classification":
        return scores
    if scores.shape[1] == 1:
        return np.asarray(np.concatenate([1 - scores, scores], axis=1))
    return np.asarray(scores / np.maximum(scores.sum(axis=1, keepdims=True), np.float32(1e-30)))


def one_hot(targets: Array, classes: int) -> Array:
    """(N, K) float32; of two classes only the second."""
    columns = np.array([1]) if classes == 2 else np.arange(classes)
    return np.asarray(targets[:, None] == columns, np.float32)


def sample_rows(rows: Rows, inputs: tuple[str, ...], rng: np.random.Generator) -> Array:
    """Ascending positions of at most 100,000 rows and 5 million characters."""
    chosen = rng.permutation(len(rows))[:MOST_ROWS]
    sizes = np.sum([[len(text) for text in column] for column in texts_of(rows.select(chosen), inputs)], axis=0)
    return np.sort(chosen[: max(1, int((np.cumsum(sizes) <= MOST_CHARACTERS).sum()))])


def texts_of(rows: Rows, inputs: tuple[str, ...]) -> Texts:
    """Every text of every input column, none longer than 20,000 characters."""
    parts = list(batches_of(rows, inputs))
    return [[shortened(text) for part in parts for text in part[place]] for place in range(len(inputs))]


def batches_of(rows: Rows, inputs: tuple[str, ...]) -> Iterator[Texts]:
    """The texts of a few thousand rows at a time."""
    for batch in rows.batches(inputs, BATCH):
        yield [column.to_pylist() for column in batch.columns]


def shortened(text: Any) -> str:
    """The beginning of a text; the whole of nearly every one."""
    return str("" if text is None else text)[:LONGEST_TEXT]


def _held_out(kind: Kind, logits: Array, wanted: Array) -> tuple[float, float]:
    """How good held-out answers are, and from which probability a label is best decided."""
    scores = probabilities(kind, logits)
    if kind == "classification":
        truth = wanted.argmax(axis=1) if wanted.shape[1] > 1 else wanted[:, 0]
        return float(np.mean(scores.argmax(axis=1) == truth)), 0.5
    levels = np.linspace(0.05, 0.95, 19)
    found = max((_micro_f1(scores >= level, wanted > 0.5), -abs(float(level) - 0.5), float(level)) for level in levels)
    return found[0], found[2]


def _micro_f1(decided: Array, wanted: Array) -> float:
    return float(2 * np.sum(decided & wanted) / max(1, int(decided.sum()) + int(wanted.sum())))


def _features(counted: list[list[Any]], rows: int) -> Any:
    """(N, F) float32 CSR: each counter's features of each column, for pairs their distance and cosine too, and a 1."""
    from scipy.sparse import csr_matrix, hstack

    parts = [column for columns in counted for column in columns]
    for columns in counted:
        if len(columns) == 2:
            left, right = columns
            parts += [abs(left - right), csr_matrix(left.multiply(right).sum(axis=1))]
    return hstack([*parts, csr_matrix(np.ones((rows, 1)))], format="csr", dtype=np.float32)
