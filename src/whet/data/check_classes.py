"""Are classes rare, lopsided, or spelled in two ways?"""

import re
from collections import defaultdict

import numpy as np

from whet.data.checks import CheckView
from whet.data.clean import counted, some
from whet.data.fingerprints import normal
from whet.data.rows import Finding
from whet.data.targets import target_numbers

_RARE = 5
_LOPSIDED = 20
_LONG = 200
"""Characters of a name that is rather a text."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def check_classes(view: CheckView) -> list[Finding]:
    """Look at the targets of train and validation; those of test are out of reach."""
    rows = view.splits["train"]
    where = f"{rows.source}, column " + ", ".join(map(repr, view.columns.target))
    if view.kind == "regression":
        return _numbers(target_numbers(rows, view.columns), where)
    counts = _counts(view, "train")
    for split in view.open_splits():
        if split != "train":
            here = _counts(view, split)
            counts = {label: count + here.get(label, 0) for label, count in counts.items()}
    many = sum(int(view.keys(split).counts().sum()) for split in view.open_splits())
    return _rare(counts, where) + _lopsided(counts, many, where) + _twice(counts, where) + _unnamed(counts, where)


def _counts(view: CheckView, split: str) -> dict[str, int]:
    """Rows of each class, or of each label, in one split."""
    counts: dict[str, int] = defaultdict(int)
    keys = view.keys(split)
    for labels, count in zip(keys.labels(), keys.counts().tolist(), strict=True):
        for label in labels if view.kind == "multi-label" else [", ".join(labels)]:
            counts[label] += count
    return counts


def _rare(counts: dict[str, int], where: str) -> list[Finding]:
    rare = sorted((label for label, count in counts.items() if count < _RARE), key=counts.__getitem__)
    if not rare:
        return []
    have = "has" if len(rare) == 1 else "have"
    many = counted(len(counts), "class", "classes")
    message = f"{len(rare):,} of {many} {have} fewer than {_RARE} rows to learn from: {some(rare)}."
    fix = "add rows of these classes, or merge them into others"
    return [Finding("classes", "warning", message, where, fix, count=len(rare))]


def _lopsided(counts: dict[str, int], many: int, where: str) -> list[Finding]:
    """Compare the commonest of ``many`` rows' classes with the rarest; a row may have several labels."""
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] < _LOPSIDED * counts[least] or len(counts) < 2:
        return []
    share = counts[most] / many
    message = (
        f"The classes are lopsided: {most[:60]!r} has {counts[most]:,} rows ({share:.0%}), {least[:60]!r} has "
        f"{counts[least]:,}."
    )
    return [Finding("classes", "info", message, where, "look at macro-F1 and at the scores per class")]


def _twice(counts: dict[str, int], where: str) -> list[Finding]:
    """Labels that differ only in case or blanks are most likely one."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        spellings[normal(label)].append(label)
    twins = [sorted(labels) for labels in spellings.values() if len(labels) > 1]
    if not twins:
        return []
    many = counted(len(twins), "class is", "classes are")
    message = f"{many} spelled in several ways, such as {' and '.join(map(repr, twins[0]))}."
    return [Finding("classes", "warning", message, where, "spell each class in one way", count=len(twins))]


def _unnamed(counts: dict[str, int], where: str) -> list[Finding]:
    """Names that nobody can read: with characters that are not for reading, or as long as a text."""
    strange = [label for label in counts if len(label) > _LONG or _CONTROL.search(label)]
    if not strange:
        return []
    many = counted(len(strange), "class has", "classes have")
    message = f"{many} a name with control characters, or of more than {_LONG} characters, such as {strange[0][:40]!r}."
    return [Finding("classes", "warning", message, where, "check the target column, and give them names", len(strange))]


def _numbers(values: np.ndarray, where: str) -> list[Finding]:
    found = []
    distinct = len(np.unique(values[:10_000]))
    if distinct <= 10 and len(values) >= 100:
        message = f"The target takes only {distinct} different values in the first {min(len(values), 10_000):,} rows."
        found.append(
            Finding("classes", "info", message, where, "consider classification: --set task.name=classification")
        )
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    far = np.abs(values - middle) > 20 * max(high - low, 1e-12)
    if high > low and far.any():
        message = f"{int(far.sum()):,} targets lie very far from the others, such as {values[far][0]:g}."
        found.append(Finding("classes", "warning", message, where, "check them", count=int(far.sum())))
    return found
