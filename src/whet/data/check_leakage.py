"""Do two sides of a split share inputs or groups? Then the score is too good to be true."""

from itertools import combinations

import numpy as np

from whet.data.check_duplicates import near_rows, sampled
from whet.data.checks import EXAMPLES, CheckView, part_of, quote
from whet.data.fingerprints import is_in
from whet.data.rows import Finding


def check_leakage(view: CheckView) -> list[Finding]:
    """Equal inputs, nearly equal inputs and equal groups across splits. Equal test inputs are told by the split."""
    found = []
    for one, other in combinations(view.splits, 2):
        if other not in view.tests:
            found += _shared(view, one, other, is_in(view.hashes(other), view.hashes(one)), "an input")
        if _grouped(view, one) and _grouped(view, other):
            groups = view.groups(other)
            shared = is_in(groups.view(np.uint64), view.groups(one).view(np.uint64)) & (groups >= 0)
            found += _shared(view, one, other, shared, f"a value of {view.columns.group!r}")
    return found + _near(view)


def _grouped(view: CheckView, split: str) -> bool:
    return view.columns.group is not None and view.columns.group in view.splits[split].names


def _shared(view: CheckView, one: str, other: str, mask: np.ndarray, what: str) -> list[Finding]:
    positions = np.flatnonzero(mask)
    if not len(positions):
        return []
    rows = view.splits[other]
    ids = rows.ids[positions[:EXAMPLES]]
    return [
        Finding(
            check="leakage",
            level="warning",
            message=f"{len(positions):,} of {len(rows):,} rows of {other} share {what} with {one}.",
            where=rows.place(int(ids[0])),
            fix="remove them from one side, or let whet draw the split",
            count=len(positions),
            row_ids=tuple(ids.tolist()),
            part=part_of(other),
        )
    ]


def _near(view: CheckView) -> list[Finding]:
    near, names, found = near_rows(view), list(view.splits), []
    low = np.minimum(near.pairs[:, 0], near.pairs[:, 2])
    high = np.maximum(near.pairs[:, 0], near.pairs[:, 2])
    for (a, one), (b, other) in combinations(enumerate(names), 2):
        pairs = near.pairs[(low == a) & (high == b)]
        if not len(pairs) or (one in view.tests and other in view.tests):
            continue
        flipped = pairs[:, 0] == b
        theirs = np.where(flipped, pairs[:, 1], pairs[:, 3])
        ours = int(np.where(flipped, pairs[:, 3], pairs[:, 1])[0])
        rows = view.splits[other]
        ids = rows.ids[np.unique(theirs)[:EXAMPLES]]
        number = len(np.unique(theirs))
        repeat = f"1 row of {other} nearly repeats" if number == 1 else f"{number:,} rows of {other} nearly repeat"
        found.append(
            Finding(
                check="leakage",
                level="info",
                message=f"{repeat} a row of {one}, such as "
                f"{quote(rows, int(theirs[0]), view.columns)} and "
                f"{quote(view.splits[one], ours, view.columns)}{sampled(near)}.",
                where=rows.place(int(rows.ids[theirs[0]])),
                fix="nothing, if new rows will be as alike; otherwise split by a group column",
                count=number,
                row_ids=tuple(ids.tolist()),
                part=part_of(other),
            )
        )
    return found
