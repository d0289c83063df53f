"""Are inputs, targets, groups or times missing in the rows that are left?"""

from typing import Any

import numpy as np

from whet.data.checks import CheckView, examples, part_of
from whet.data.columns import missing_mask
from whet.data.rows import Finding


def check_missing(view: CheckView) -> list[Finding]:
    """Count missing values per split and column that plays a part."""
    parts = (*view.columns.inputs, *view.columns.target, view.columns.group, view.columns.time)
    findings = []
    for split, rows in view.splits.items():
        names = [name for name in dict.fromkeys(parts) if name is not None and name in rows.names]
        found: dict[str, list[np.ndarray[Any, Any]]] = {name: [np.zeros(0, dtype=np.int64)] for name in names}
        start = 0
        for batch in rows.batches(names):
            for name, column in zip(names, batch.columns, strict=True):
                found[name].append(start + np.flatnonzero(missing_mask(column)))
            start += batch.num_rows
        for name in names:
            positions = np.concatenate(found[name])
            if len(positions):
                ids = examples(rows, positions)
                findings.append(
                    Finding(
                        check="missing",
                        level="warning",
                        message=f"{len(positions):,} of {len(rows):,} rows of {split} have nothing in {name!r}.",
                        where=rows.place(ids[0], name),
                        fix="fill them in; rows without a group count as groups of their own",
                        count=len(positions),
                        row_ids=ids,
                        part=part_of(split),
                    )
                )
    return findings
