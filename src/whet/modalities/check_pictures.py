"""What about the pictures themselves will hurt? Blank or long ones, mixed sizes, and marks that give the class away.

A mark is what a camera, a scanner or an export leaves and no subject has: the size of a picture or of its file, the
kind of file, the brightness of its border. If such a thing alone tells the class, a model learns it, not the subject.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.data.checks import CheckView, examples, part_of
from whet.data.clean import counted
from whet.data.rows import Columns, Finding, Rows, raw_values, spread
from whet.modalities.glance import NOTHING, Failed, Glance, glances

Array = np.ndarray[Any, Any]
LARGEST_SAMPLE = 20_000
FLAT = 2.0
"""Standard deviation of brightness, of 255, below which a picture is blank."""
LONG = 3.0
"""Times that one side exceeds the other in a picture that is very long."""
MIXED = 4.0
"""Times that the largest pictures (99%) have the pixels of the smallest (1%) where sizes are mixed."""
BINS = 10
TELLS = 0.2
"""Share of rows, above that of the commonest class, that a mark tells right at least (95%) before it is reported."""
FEWEST = 40
"""Rows from which marks are looked for."""
MARKS = {
    "width": "the width of a picture", "height": "the height of a picture", "bytes": "the size of its file",
    "ending": "the kind of file", "border": "the brightness of its border", "brightness": "its brightness",
}  # fmt: skip


@dataclass(frozen=True)
class Glimpses:
    """A few numbers of each picture of a sample of rows.

    Shapes:
        positions: (N,) rows; width, height, bytes, ending, brightness, spread, border: (N,) each.
    """

    positions: Array
    width: Array
    height: Array
    bytes: Array
    ending: Array
    brightness: Array
    spread: Array
    border: Array


def check_pictures(view: CheckView) -> list[Finding]:
    """Blank and very long pictures of every split; sizes and marks of the training rows."""
    found = []
    for split, rows in view.splits.items():
        seen = glimpses(rows, view.columns)
        found += blank(rows, seen, split) + long(rows, seen, split)
        if split == "train":
            found += mixed(rows, seen)
            if view.kind == "classification" and len(seen.positions) >= FEWEST:
                found += telling(rows, seen, view.keys(split).codes[seen.positions])
    return found


def glimpses(rows: Rows, columns: Columns) -> Glimpses:
    """Look at every picture, or at a sample of many, from afar."""
    positions = spread(len(rows), LARGEST_SAMPLE)
    found: list[Glance] = []
    for batch in rows.select(positions).batches(columns.inputs, 1024):
        looks = glances([value for (value, *_) in raw_values(rows, columns, batch)])
        found += [NOTHING if isinstance(look, Failed) else look for look in looks]
    numbers = [(*one.seen.size, one.bytes, one.brightness, one.spread, one.border) for one in found]
    width, height, size, brightness, deviation, border = np.array(numbers, np.float64).reshape(len(found), 6).T
    endings = np.unique(np.array([one.ending for one in found], dtype=object).astype(str), return_inverse=True)[1]
    return Glimpses(positions, width, height, size, endings, brightness, deviation, border)


def blank(rows: Rows, seen: Glimpses, split: str) -> list[Finding]:
    """Pictures of one brightness."""
    places = seen.positions[seen.spread < FLAT]
    if not len(places):
        return []
    message = f"{counted(len(places), 'image', 'images')} of {split} {'is' if len(places) == 1 else 'are'} blank."
    return [said("warning", rows, places, message, "remove them, unless a blank image means something", split)]


def long(rows: Rows, seen: Glimpses, split: str) -> list[Finding]:
    """Pictures that are much longer than wide, or wider than long."""
    ratio = np.maximum(seen.width, seen.height) / np.maximum(1, np.minimum(seen.width, seen.height))
    places = seen.positions[ratio > LONG]
    if not len(places):
        return []
    message = f"{counted(len(places), 'image', 'images')} of {split} {'has' if len(places) == 1 else 'have'} one side "
    message += f"more than {LONG:g} times the other; models see squares, so much is cut off or squeezed."
    return [said("info", rows, places, message, "cut them into squares, if what matters lies at their ends", split)]


def mixed(rows: Rows, seen: Glimpses) -> list[Finding]:
    """A word where pictures are of very different sizes."""
    pixels = seen.width * seen.height
    if not len(pixels):
        return []
    least, most = np.quantile(pixels, [0.01, 0.99], method="nearest")
    if most <= MIXED * max(1.0, least):
        return []
    small, large = (int(np.argmin(np.abs(pixels - one))) for one in (least, most))
    sizes = [f"{int(seen.width[place])} x {int(seen.height[place])}" for place in (small, large)]
    message = f"Images are of very different sizes, from {sizes[0]} to {sizes[1]} pixels; all are brought to one."
    places = seen.positions[[small, large]]
    return [
        said("info", rows, places, message, "nothing, if new ones will be as different", "train", count=len(pixels))
    ]


def telling(rows: Rows, seen: Glimpses, classes: Array) -> list[Finding]:
    """Marks that tell the class alone, tried on the half of the rows that they were not read from."""
    _, codes = np.unique(classes, return_inverse=True)
    usual = np.bincount(codes).max() / len(codes)
    found = []
    for name, words in MARKS.items():
        right = told_by(getattr(seen, name), codes)
        low = right - 1.96 * np.sqrt(max(right * (1 - right), 1e-9) / len(codes))
        if low - usual < TELLS:
            continue
        level = "info" if name == "brightness" else "warning"
        message = f"{words[0].upper()}{words[1:]} alone tells the class of {right:.0%} of the training rows "
        message += f"(the commonest class has {usual:.0%}), so a model may learn that and not what is shown."
        fix = "take images of every class in the same way, or bring them to one form first"
        found.append(said(level, rows, seen.positions[:0], message, fix, "train", count=len(codes)))
    return found


def told_by(mark: Array, codes: Array) -> float:
    """Share of rows whose class the commonest one among like marks of the other half of the rows is."""
    half = np.arange(len(codes)) % 2
    edges = np.unique(np.quantile(mark, np.linspace(0, 1, BINS + 1)[1:-1]))
    values = np.unique(mark)
    bins = np.searchsorted(values, mark) if len(values) <= BINS else np.searchsorted(edges, mark, side="right")
    right = 0
    for side in (0, 1):
        table = np.zeros((int(bins.max()) + 1, int(codes.max()) + 1), np.int64)
        np.add.at(table, (bins[half != side], codes[half != side]), 1)
        guess = np.where(table.any(axis=1), table.argmax(axis=1), table.sum(axis=0).argmax())
        right += int((guess[bins[half == side]] == codes[half == side]).sum())
    return right / len(codes)


def said(
    level: Any, rows: Rows, places: Array, message: str, fix: str, split: str, count: int | None = None
) -> Finding:
    """One finding, placed at its first row where there is one."""
    ids = examples(rows, places)
    where = rows.place(ids[0]) if ids else rows.source
    number = len(places) if count is None else count
    return Finding("pictures", level, message, where, fix, count=number, row_ids=ids, part=part_of(split))
