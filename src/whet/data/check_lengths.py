"""How long are the inputs, in characters, and which are strangely short or long?"""

import numpy as np
import pyarrow.compute as pc

from whet.data.checks import CheckView, examples
from whet.data.rows import Finding

_SHORT, _LONG = 3, 20_000


def check_lengths(view: CheckView) -> list[Finding]:
    """Very short and very long inputs of each split, and splits whose lengths differ much from train."""
    found, medians = [], {}
    for split, rows in view.splits.items():
        for name in view.columns.inputs:
            lengths = np.empty(len(rows), dtype=np.int32)
            start = 0
            for batch in rows.batches([name], size=16384):
                counts = pc.fill_null(pc.utf8_length(batch.column(0)), 0)
                lengths[start : start + batch.num_rows] = counts.to_numpy(zero_copy_only=False)
                start += batch.num_rows
            medians[split, name] = float(np.median(lengths)) if len(lengths) else 0.0
            found += _odd(view, split, name, lengths, medians[split, name])
            found += _shifted(view, split, name, medians)
    return found


def _odd(view: CheckView, split: str, name: str, lengths: np.ndarray, median: float) -> list[Finding]:
    rows, found = view.splits[split], []
    for positions, what, fix in (
        (np.flatnonzero(lengths < _SHORT), f"fewer than {_SHORT} characters", "check that they say enough"),
        (np.flatnonzero(lengths > _LONG), f"more than {_LONG:,} characters", "expect many windows and more time"),
    ):
        if len(positions) and not (lengths.max() > _LONG and median > _LONG):
            ids = examples(rows, positions)
            message = (
                f"{len(positions):,} of {len(rows):,} texts of {split} have {what} "
                f"(median {median:,.0f}, longest {int(lengths.max()):,})."
            )
            found.append(Finding("lengths", "info", message, rows.place(ids[0], name), fix, len(positions), ids))
    return found


def _shifted(view: CheckView, split: str, name: str, medians: dict[tuple[str, str], float]) -> list[Finding]:
    usual, here = medians["train", name], medians[split, name]
    if max(usual, here) < 3 * max(1.0, min(usual, here)):
        return []
    message = f"Texts of {split} are of another length than those of train: median {here:,.0f} against {usual:,.0f}."
    return [Finding("lengths", "warning", message, view.splits[split].source, "check that they are of one kind")]
