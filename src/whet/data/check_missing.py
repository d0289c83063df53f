"""Are inputs, targets, groups or times missing in the rows that are left?"""

import numpy as np

from whet.data.checks import CheckView, examples
from whet.data.columns import missing_mask
from whet.data.rows import Finding


def check_missing(view: CheckView) -> list[Finding]:
    """Count missing values per split and column that plays a part."""
    parts = (*view.columns.inputs, *view.columns.target, view.columns.group, view.columns.time)
    findings = []
    for split, rows in view.splits.items():
        names = [name for name in dict.fromkeys(parts) if name is not None and name in rows.names]
        masks = [[missing_mask(column) for column in batch.columns] for batch in rows.batches(names, size=65536)]
        for place, name in enumerate(names):
            positions = np.flatnonzero(np.concatenate([mask[place] for mask in masks])) if masks else np.zeros(0, int)
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
                    )
                )
    return findings
