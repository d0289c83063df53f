"""Does one input stand under two targets? Then some of them are wrong, or the text alone cannot tell."""

import numpy as np

from whet.data.checks import EXAMPLES, CheckView, part_of, quote
from whet.data.clean import spelled
from whet.data.rows import Finding
from whet.data.targets import target_numbers


def check_conflicts(view: CheckView) -> list[Finding]:
    """Equal inputs with different targets, within train and within validation."""
    return [finding for split in view.open_splits() for finding in _conflicts(view, split)]


def _conflicts(view: CheckView, split: str) -> list[Finding]:
    rows, places = view.splits[split], view.repeated(split)
    if not len(places):
        return []
    codes = target_numbers(rows, view.columns) if view.kind == "regression" else view.keys(split).codes
    hashes = view.hashes(split)[places]
    order = places[np.argsort(hashes, kind="stable")]
    ranked, values = np.sort(hashes), codes[order]
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    bad = np.flatnonzero(low != high)
    if not len(bad):
        return []
    begin, end = int(starts[bad[0]]), int(np.append(starts, len(order))[bad[0] + 1])
    first = int(order[begin])
    other = int(order[begin:end][values[begin:end] != values[begin]][0])
    told = [_told(view, split, position, codes) for position in (first, other)]
    ids = rows.ids[order[starts[bad[:EXAMPLES]]]]
    return [
        Finding(
            check="conflicts",
            level="warning",
            message=f"{len(bad):,} {view.columns.modality.nouns[1]} of {split} stand under different targets, such as "
            f"{quote(rows, first, view.columns)}: {told[0]} in row {rows.ids[first] + 1:,}, "
            f"{told[1]} in row {rows.ids[other] + 1:,}.",
            where=rows.place(int(rows.ids[first])),
            fix="decide which target is right",
            count=len(bad),
            row_ids=tuple(ids.tolist()),
            part=part_of(split),
        )
    ]


def _told(view: CheckView, split: str, position: int, codes: np.ndarray) -> str:
    if view.kind == "regression":
        return f"{codes[position]:g}"
    return repr(spelled(view.keys(split).keys[int(codes[position])]))
