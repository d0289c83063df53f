"""The same subsamples for every contender: five public sets, some rows a class or in all, by a seed.

Knows nothing of whet, so that peers in environments of their own read the very same rows.
"""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PHRASEBANK_TEST = 0.25
"""Of the phrase bank, which has no official split; its seed is fixed, so that every cell has the same test rows."""
Row = tuple[str, str]


def sst2() -> tuple[list[Row], list[Row]]:
    """Sentiment of sentences, 2 classes."""
    return read_table(DATA / "sst2/train.tsv", "sentence"), read_table(DATA / "sst2/test.tsv", "sentence")


def trec() -> tuple[list[Row], list[Row]]:
    """Kinds of questions, 6 classes."""
    return read_table(DATA / "trec/train.csv", "text"), read_table(DATA / "trec/test.csv", "text")


def emotion() -> tuple[list[Row], list[Row]]:
    """Emotions of tweets, 4 classes."""
    folder = DATA / "tweet_eval/emotion"

    def part(name: str) -> list[Row]:
        texts = (folder / f"{name}_text.txt").read_text(encoding="utf-8").splitlines()
        labels = (folder / f"{name}_labels.txt").read_text(encoding="utf-8").split()
        return list(zip(texts, (f"emotion {label}" for label in labels), strict=True))

    return part("train"), part("test")


def phrasebank() -> tuple[list[Row], list[Row]]:
    """Sentiment of financial news, 3 classes; a quarter, drawn once, is for testing."""
    text = (DATA / "financial_phrasebank/Sentences_50Agree.txt").read_text(encoding="utf-8-sig")
    rows = [(one, label) for one, _, label in (line.rpartition("@") for line in text.splitlines() if line)]
    random.Random(0).shuffle(rows)
    cut = round(PHRASEBANK_TEST * len(rows))
    return rows[cut:], rows[:cut]


def clinc150() -> tuple[list[Row], list[Row]]:
    """Intents within scope, 150 classes."""
    parts = json.loads((DATA / "clinc150/data_full.json").read_text(encoding="utf-8"))
    return [tuple(row) for row in parts["train"]], [tuple(row) for row in parts["test"]]


SETS: dict[str, Callable[[], tuple[list[Row], list[Row]]]] = {
    "sst2": sst2,
    "trec": trec,
    "emotion": emotion,
    "phrasebank": phrasebank,
    "clinc150": clinc150,
}
WEIGHTED = ("phrasebank",)
"""Sets that are scored by weighted F1; the others by accuracy."""


def sample(name: str, size: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Training rows, ``size`` a class (at most 1,000) or else in all, and every test row."""
    train, test = SETS[name]()
    drawn = random.Random(f"{name} {size} {seed}")
    drawn.shuffle(train)
    if size > 1000:
        return train[:size], test
    left = dict.fromkeys((label for _, label in train), size)
    chosen = []
    for text, label in train:
        if left[label]:
            left[label] -= 1
            chosen.append((text, label))
    return chosen, test


def read_table(path: Path, text: str) -> list[Row]:
    """(text, label) of a CSV or TSV."""
    with path.open(newline="", encoding="utf-8") as file:
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
        return [(row[text], row["label"]) for row in csv.DictReader(file, **dialect)]


def write_rows(rows: list[Row], path: Path) -> None:
    """A CSV with the columns text and label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def score(name: str, answers: list[str], targets: list[str]) -> float:
    """Accuracy, or weighted F1 where the set is scored so."""
    if name in WEIGHTED:
        from sklearn.metrics import f1_score

        return float(f1_score(targets, answers, average="weighted"))
    return sum(a == t for a, t in zip(answers, targets, strict=True)) / len(targets)
