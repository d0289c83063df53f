"""What in the rows will hurt? Runs every check in the catalog; a check that fails itself never stops the run.

Checks need no model. Those on test rows look at inputs only: the rows they get have no targets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from whet import catalog
from whet.data.fingerprints import group_codes, input_hashes, repeated
from whet.data.rows import Columns, Finding, Rows
from whet.data.split import Split, TestSet
from whet.data.targets import TargetKeys, target_keys

Array = np.ndarray[Any, Any]
Kind = Literal["classification", "multi-label", "regression"]
EXAMPLES = 5
T = TypeVar("T")


@dataclass(frozen=True)
class CheckView:
    """What checks see: the rows of every split by name, test rows without targets.

    Hashes, keys and group codes are computed once and shared by the checks.
    """

    splits: dict[str, Rows]
    columns: Columns
    tests: dict[str, TestSet]
    kind: Kind
    separator: str | None = None
    _memo: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False, compare=False)

    def hashes(self, name: str) -> Array:
        """(N,) uint64 of the inputs of one split."""
        return self._once("hashes", name, lambda: input_hashes(self.splits[name], self.columns))

    def repeated(self, name: str) -> Array:
        """(R,) int64: positions of the rows of one split whose inputs occur more than once in it."""
        return self._once("repeated", name, lambda: repeated(self.hashes(name)))

    def keys(self, name: str) -> TargetKeys:
        """The target keys of one split that is not a test set."""
        return self._once("keys", name, lambda: target_keys(self.splits[name], self.columns, self.separator))

    def groups(self, name: str) -> Array:
        """(N,) int64 group codes of one split, which must have the group column."""
        return self._once("groups", name, lambda: group_codes(self.splits[name], self.columns))

    def open_splits(self) -> list[str]:
        """The splits whose targets may be read."""
        return [name for name in self.splits if name not in self.tests]

    def shared(self, what: str, compute: Callable[[], T]) -> T:
        """Something dear that two checks need."""
        return self._once(what, "", compute)

    def _once(self, what: str, name: str, compute: Callable[[], T]) -> T:
        if (what, name) not in self._memo:
            self._memo[what, name] = compute()
        found: T = self._memo[what, name]
        return found


def view_of(split: Split, columns: Columns, kind: Kind, separator: str | None = None) -> CheckView:
    """Everything in a split, for the checks."""
    splits = {"train": split.train}
    if split.valid is not None:
        splits["valid"] = split.valid
    splits.update({name: test.rows for name, test in split.tests.items()})
    return CheckView(splits, columns, split.tests, kind, separator)


def run_checks(view: CheckView) -> list[Finding]:
    """The findings of all checks that suit the kind of input, most serious first."""
    found: list[Finding] = []
    modality = catalog.name_of("modality", view.columns.modality)
    for name, member in catalog.members("check").items():
        if member.modality not in ("", modality):
            continue
        try:
            found += catalog.find("check", name)(view)
        except Exception as error:  # noqa: BLE001 - a check must never stop a run
            message = f"The check {name!r} failed and was left out: {type(error).__name__}: {error}"
            found.append(Finding(name, "warning", message, "whet", "report this as a defect of whet"))
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def part_of(split: str) -> str:
    """What findings call a part, see ``Finding``."""
    return "" if split == "train" else split


def examples(rows: Rows, positions: Array) -> tuple[int, ...]:
    """Row ids of the first few positions."""
    index = rows.index
    return tuple(int(place if index is None else index[place]) for place in positions[:EXAMPLES])


def quote(rows: Rows, position: int, columns: Columns, limit: int = 60) -> str:
    """The beginning of one row's input, for a message."""
    text = str(rows.select(np.array([position])).values(columns.inputs[0])[0])
    return repr(text if len(text) <= limit else text[:limit] + "…")
