"""Which inputs come more than once, or nearly so, in one split?"""

import numpy as np

from whet.data.checks import EXAMPLES, CheckView, part_of, quote
from whet.data.near import Near
from whet.data.rows import Finding


def check_duplicates(view: CheckView) -> list[Finding]:
    """Equal inputs within each split, and nearly equal ones in train."""
    found = [finding for split in view.splits for finding in _equal(view, split)]
    near = near_rows(view)
    inside = near.pairs[(near.pairs[:, 0] == near.pairs[:, 2]) & (near.pairs[:, 0] == 0)]
    if len(inside):
        number = f"{len(inside):,}{'+' if near.capped else ''}"
        pairs = f"{number} {'pair of train rows is' if number == '1' else 'pairs of train rows are'}"
        rows, first, second = view.splits["train"], int(inside[0, 1]), int(inside[0, 3])
        ids = rows.ids[inside[:EXAMPLES, 3]]
        found.append(
            Finding(
                check="duplicates",
                level="info",
                message=f"{pairs} nearly equal, such as "
                f"{quote(rows, first, view.columns)} and {quote(rows, second, view.columns)}{sampled(near)}.",
                where=rows.place(int(ids[0])),
                fix="nothing, if they are different cases; otherwise remove copies",
                count=len(inside),
                row_ids=tuple(ids.tolist()),
            )
        )
    return found


def near_rows(view: CheckView) -> Near:
    """Nearly equal rows over all splits, found once for all checks; tables are numbered as in ``view.splits``."""
    tables, names, columns = list(view.splits.values()), list(view.splits), view.columns
    found: Near = view.shared(
        "near", lambda: columns.modality.near(tables, [view.hashes(name) for name in names], columns)
    )
    return found


def sampled(near: Near) -> str:
    """How a message says that not all rows were compared."""
    return "" if near.looked_at > near.total * 0.5 else f" (looked at {near.looked_at:,} of {near.total:,} rows)"


def _equal(view: CheckView, split: str) -> list[Finding]:
    rows, places = view.splits[split], view.repeated(split)
    _, first = np.unique(view.hashes(split)[places], return_index=True)
    again = np.delete(places, first)
    if not len(again):
        return []
    ids, noun = rows.ids[again[:EXAMPLES]], view.columns.modality.nouns[0]
    return [
        Finding(
            check="duplicates",
            level="info",
            message=f"{len(again):,} of {len(rows):,} rows of {split} repeat the {noun} of an earlier row, such as "
            f"{quote(rows, int(again[0]), view.columns)}.",
            where=rows.place(int(ids[0])),
            fix=f"nothing, if the {noun} is really that common; otherwise remove copies",
            count=len(again),
            row_ids=tuple(ids.tolist()),
            part=part_of(split),
        )
    ]
