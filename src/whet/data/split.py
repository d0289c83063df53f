"""Honest splits: test and validation rows that training never sees, drawn when they were not given.

Stratified and seeded by default; whole groups or the latest rows when a column says so. Equal inputs never lie
on two sides of a split that is drawn here. Test targets go to a sealed file (see ``targets.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whet.data.assign import hold_out_groups, hold_out_latest, hold_out_rows, latest_of_group
from whet.data.clean import counted, require_classes, some, spelled
from whet.data.fingerprints import group_codes, input_hashes, is_in
from whet.data.read import Sources
from whet.data.rows import Columns, Finding, Rows
from whet.data.tables import is_list
from whet.data.targets import TargetKeys, require_lists, require_numbers, seal_targets, target_keys, target_numbers
from whet.data.times import parse_times
from whet.errors import ConfigError, DataError

Array = np.ndarray[Any, Any]
_FEWEST = 10
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How rows are divided when no test or validation rows were given.

    ``valid_fraction`` is a share of what is not test; 0 draws none. ``separator`` stands between the labels of a
    text target that holds several. ``known`` are labels that the model answers with whatever training holds.
    """

    test_fraction: float = 0.2
    valid_fraction: float = 0.15
    seed: int = 0
    regression: bool = False
    separator: str | None = None
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low in (("test_fraction", 0.01), ("valid_fraction", 0.0)):
            value = getattr(self, name)
            if not low <= value <= 0.5:
                raise ConfigError(
                    f"{name} must be from {low:g} to 0.5, got {value:g}.",
                    where=f"data.{name}",
                    fix="0.2 is a common choice; take more when there are few rows",
                )


@dataclass(frozen=True)
class TestSet:
    """Rows to judge by. Their targets are out of reach: they lie in the ``sealed`` file.

    ``units`` is (N,) int64, equal for rows of one group (None without groups); ``leaked`` holds the ids (int64)
    of test rows whose inputs are also in train or validation. ``origin`` is the earlier run that held these rows out,
    "" for those of this run. Sealed targets are read as the run reads its own that held them out: ``target`` are the
    columns of that, and ``form`` is what its state says of how labels are written, None where it says nothing.
    """

    __test__ = False  # not a test, though pytest would think so

    name: str
    rows: Rows
    sealed: Path
    units: Array | None
    leaked: Array
    target: tuple[str, ...]
    origin: str = ""
    form: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Split:
    """Rows to train on, to stop by, and to judge by. ``how`` says in one sentence how they were divided."""

    train: Rows
    valid: Rows | None
    tests: dict[str, TestSet]
    findings: tuple[Finding, ...]
    how: str


def split_rows(sources: Sources, columns: Columns, settings: SplitSettings, *, sealed_folder: Path) -> Split:
    """Divide cleaned rows into train, validation and test, and seal the test targets.

    Args:
        sources: What was read, without rows that lack an input or target (see ``clean``).
        sealed_folder: Where the files with test targets go, one per test set.

    Raises:
        DataError: too few rows or groups, all one class, a target or time that does not read.
    """
    drawer = _Drawer(sources.train, columns, settings)
    findings = list(drawer.findings)
    everything = np.arange(len(sources.train), dtype=np.int32)
    rest, drawn = everything, None
    tests = dict(sources.tests)
    if not tests:
        rest, drawn, found = drawer.draw(rest, settings.test_fraction, "test")
        tests["test"] = sources.train.select(drawn)
        findings += found
    valid, valid_hashes = sources.valid, np.zeros(0, dtype=np.uint64)
    if valid is not None:
        valid_hashes = input_hashes(valid, columns)
    elif settings.valid_fraction > 0:
        try:
            rest, inside, found = drawer.draw(rest, settings.valid_fraction, "valid")
            valid, valid_hashes = sources.train.select(inside), drawer.hashes[inside]
        except DataError as error:
            found = [_no_valid(error, len(rest))]
        findings += found
    train = sources.train.select(rest) if len(rest) < len(everything) else sources.train
    if sources.tests:
        seen = np.concatenate([drawer.hashes[rest], valid_hashes])
    else:  # what is drawn here shares no text with train; valid rows that were given may
        seen = valid_hashes if sources.valid is not None else valid_hashes[:0]
    known = drawer.known(rest)
    if len(columns.target) == 1 and is_list(sources.train.table.schema.field(columns.target[0]).type):
        for given in [*([] if sources.valid is None else [sources.valid]), *sources.tests.values()]:
            require_lists(given, columns, known)
    if known and valid is not None and (sources.valid is not None or columns.group or columns.time):
        findings += unseen_classes("valid", valid, columns, settings.separator, known, "They stop and choose nothing.")
    sealed = {}
    for number, (name, rows) in enumerate(tests.items(), start=1):
        path = sealed_folder / f"{number}.arrow"
        sealed[name], found = _test_set(name, rows, columns, settings, seen, known, path)
        findings += found
    how = _how(columns, settings, drawn is not None, train, valid, sealed)
    return Split(train, valid, sealed, tuple(findings), how)


class _Drawer:
    """What drawing needs to know of every training row, in a few bytes each."""

    def __init__(self, rows: Rows, columns: Columns, settings: SplitSettings) -> None:
        self.rows, self.columns, self.settings = rows, columns, settings
        self.findings: list[Finding] = []
        self.keys: TargetKeys | None = None
        if not settings.regression:
            self.keys = target_keys(rows, columns, settings.separator)
            self.findings += require_classes(self.keys, rows, columns)
        self.strata = strata_of(rows, columns, settings, self.keys)
        self.hashes = input_hashes(rows, columns)
        self.groups = group_codes(rows, columns) if columns.group else None
        self.times = self._times() if columns.time else None

    def draw(self, among: Array, fraction: float, purpose: str) -> tuple[Array, Array, list[Finding]]:
        """Positions kept, positions held out, and what to say about it.

        Raises:
            DataError: there are too few rows, or they cannot be divided.
        """
        if len(among) < _FEWEST:
            raise DataError(
                f"There are {len(among):,} usable rows; at least {_FEWEST} are needed to hold {purpose} rows out.",
                where=self.rows.source,
                fix=f"add rows, or give {purpose} rows of their own with --{purpose} FILE",
            )
        whole = len(among) == len(self.rows)
        hashes = self.hashes if whole else self.hashes[among]
        held = self._held(among, hashes, fraction, purpose)
        if not held.any() or held.all():
            raise self._indivisible(purpose)
        if self.times is None and self.groups is None:
            return among[~held], among[held], []
        twins = np.zeros(len(among), dtype=bool)
        twins[held] = is_in(hashes[held], hashes[~held])
        if twins[held].all():
            raise self._indivisible(purpose)
        kept, drawn = among[~held], among[held & ~twins]
        return kept, drawn, [*self._twins_note(among[twins], purpose), *self._early_note(kept, drawn, purpose)]

    def known(self, positions: Array) -> set[str]:
        """The labels that training rows have."""
        if self.keys is None:
            return set()
        labels = self.keys.labels()
        seen = np.zeros(len(labels), dtype=bool)
        for start in range(0, len(positions), 65536):
            seen[self.keys.codes[positions[start : start + 65536]]] = True
        return {*self.settings.known, *(label for code in np.flatnonzero(seen) for label in labels[code])}

    def _held(self, among: Array, hashes: Array, fraction: float, purpose: str) -> Array:
        seed = self.settings.seed
        if self.times is not None:
            return hold_out_latest(self.times[among], fraction)
        if self.groups is not None:
            return hold_out_groups(self.groups[among], self.strata[among], fraction, purpose, seed)
        strata = self.strata if len(among) == len(self.rows) else self.strata[among]
        return hold_out_rows(hashes, strata, fraction, purpose, seed)

    def _times(self) -> Array:
        self.moments, found = parse_times(self.rows, str(self.columns.time))
        self.findings += found
        return self.moments if self.groups is None else latest_of_group(self.moments, self.groups)

    def _indivisible(self, purpose: str) -> DataError:
        column = self.columns.time or self.columns.group
        reason = "all rows (or groups) have the same latest time" if self.columns.time else "there are too few groups"
        own = f"give {purpose} rows of their own with --{purpose} FILE"
        fix = f"{own}, or split by another column"
        if column is None:
            kinds, number = len(np.unique(self.strata)), len(self.rows)
            alone = kinds > number / 2
            reason = (
                f"{number:,} rows have {kinds:,} different targets"
                if alone
                else "all rows are equal, or too few of a class"
            )
            fix = "check that this is the column to predict; a quantity is written in plain numbers, without units or "
            fix = f"{fix}thousands separators" if alone else own
        return DataError(
            f"No {purpose} rows can be held out: {reason}.",
            where=self.rows.source + (f", column {column!r}" if column else ""),
            fix=fix,
        )

    def _early_note(self, kept: Array, drawn: Array, purpose: str) -> list[Finding]:
        """Whole groups reach back in time: then not all that is held out is later than what is learnt from."""
        if self.times is None or self.groups is None:
            return []
        early = drawn[self.moments[drawn] < self.moments[kept].max()]
        if not len(early):
            return []
        ids, (group, time) = self.rows.ids[early[:_EXAMPLES]], (self.columns.group, self.columns.time)
        message = f"{len(early):,} of {len(drawn):,} {purpose} rows are earlier than the latest training row: whole "
        message += f"groups of {group!r} are held out, those that reach latest in {time!r}. "
        message += "The score speaks of new groups, and of the future only in part."
        where, fix = self.rows.place(int(ids[0]), time), "leave the group out to test on the latest rows alone"
        return [Finding("split", "warning", message, where, fix, count=len(early), row_ids=tuple(ids.tolist()))]

    def _twins_note(self, positions: Array, purpose: str) -> list[Finding]:
        if not len(positions):
            return []
        ids = self.rows.ids[positions[:_EXAMPLES]]
        return [
            Finding(
                check="split",
                level="warning",
                message=f"{len(positions):,} rows that would be {purpose} are left out: their text is also in train.",
                where=self.rows.place(int(ids[0])),
                fix="nothing: equal texts on both sides would flatter the score",
                count=len(positions),
                row_ids=tuple(ids.tolist()),
            )
        ]


def _test_set(
    name: str, rows: Rows, columns: Columns, settings: SplitSettings, seen: Array, known: set[str], path: Path
) -> tuple[TestSet, list[Finding]]:
    """Seal the targets of one test set, and say what it shares with training and what training never saw."""
    findings: list[Finding] = []
    leaked = np.zeros(0, dtype=np.int64)
    if len(seen):
        leaked = rows.ids[is_in(input_hashes(rows, columns), seen)]
    if len(leaked):
        findings.append(
            Finding(
                check="leakage",
                level="warning",
                message=f"{len(leaked):,} of {len(rows):,} rows of {name} have a text that is also in train or valid.",
                where=rows.place(int(leaked[0])),
                fix="remove them from one side; the score of these rows is too good to be true",
                count=len(leaked),
                row_ids=tuple(leaked[:_EXAMPLES].tolist()),
                part=name,
            )
        )
    if known:
        findings += unseen_classes(name, rows, columns, settings.separator, known)
    has_groups = columns.group is not None and columns.group in rows.names
    units = group_codes(rows, columns) if has_groups else None
    if settings.regression:
        require_numbers(rows, columns)
    seal_targets(rows, columns, path)
    return TestSet(name, rows.without(columns.target), path, units, leaked, columns.target), findings


def unseen_classes(
    name: str, rows: Rows, columns: Columns, separator: str | None, known: set[str], how: str = ""
) -> list[Finding]:
    """Classes that training lacks: only their names and counts are looked at.

    Args:
        name: How messages call these rows.
        separator: What stands between the labels of a text target; None where a text is one class.
        known: The classes, or labels, of training.
        how: What becomes of these rows; by default what judge does with them.

    Raises:
        DataError: they are to be judged, and not one of their classes is known.
    """
    keys = target_keys(rows, columns, separator)
    counts: dict[str, int] = {}
    for labels, count in zip(keys.labels(), keys.counts().tolist(), strict=True):
        for label in labels:
            if label not in known:
                counts[label] = counts.get(label, 0) + count
    if not counts:
        return []
    several = _several(rows, columns, separator)
    if not how and not any(known.intersection(labels) for labels in keys.labels()):
        raise _all_unknown(name, rows, columns, counts, known, "labels" if several else "classes")
    named = [f"{spelled(label)} ({count:,})" for label, count in sorted(counts.items(), key=lambda pair: -pair[1])]
    many = counted(len(counts), *(("label", "labels") if several else ("class", "classes")))
    how = how or ("They are not counted: no answer can name them." if several else "Their rows count as wrong.")
    return [
        Finding(
            check="classes",
            level="warning",
            message=f"{name} has {many} that train lacks: {some(named)}. {how}",
            where=f"{rows.source}, column " + ", ".join(map(repr, columns.target)),
            fix="add such rows to train, or remove them from the test rows",
            count=sum(counts.values()),
        )
    ]


def _all_unknown(
    name: str, rows: Rows, columns: Columns, counts: dict[str, int], known: set[str], word: str
) -> DataError:
    """Every answer on such rows is wrong, so that no score of them says anything."""
    theirs, ours = some(sorted(counts)), some(sorted(known))
    return DataError(
        f"None of the {word} of {name} is known from training: {theirs}; train has {ours}.",
        where=f"{rows.source}, column " + ", ".join(map(repr, columns.target)),
        fix=f"give test rows of the {word} that train has, spelt alike, or add such rows to train",
    )


def _several(rows: Rows, columns: Columns, separator: str | None) -> bool:
    field = rows.table.schema.field(columns.target[0])
    return separator is not None or len(columns.target) > 1 or is_list(field.type)


def strata_of(rows: Rows, columns: Columns, settings: SplitSettings, keys: TargetKeys | None = None) -> Array:
    """(N,) int32: what draws are stratified by, the class of each row, its rarest label, or the range of its number.

    Args:
        keys: Of the rows, where they are known already.
    """
    if settings.regression:
        return _bins(target_numbers(rows, columns), rows, columns)
    keys = keys or target_keys(rows, columns, settings.separator)
    return _strata(keys, _several(rows, columns, settings.separator))


def _strata(keys: TargetKeys, several: bool) -> Array:
    """(N,) int32: the class of each row, or its rarest label; numbered by name, not by order in the file."""
    if not several:
        return keys.codes
    counts: dict[str, int] = {}
    for labels, count in zip(keys.labels(), keys.counts().tolist(), strict=True):
        for label in labels:
            counts[label] = counts.get(label, 0) + count
    names = [min(labels, key=lambda label: (counts[label], label), default="") for labels in keys.labels()]
    ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
    return np.asarray(np.array([ranks[name] for name in names], dtype=np.int32)[keys.codes])


def _bins(numbers: Array, rows: Rows, columns: Columns) -> Array:
    """(N,) int32: which of up to ten equally filled ranges the target lies in."""
    if np.nanmin(numbers) == np.nanmax(numbers):
        raise DataError(
            f"The target is the same number in all {len(rows):,} rows: {numbers[0]:g}.",
            where=f"{rows.source}, column {columns.target[0]!r}",
            fix="name another target column",
        )
    count = int(np.clip(len(numbers) // 20, 1, 10))
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, count + 1)[1:-1]))
    return np.searchsorted(edges, numbers, side="right").astype(np.int32)


def _no_valid(error: DataError, count: int) -> Finding:
    """A fit does without validation rows: nothing stops it early, and nothing can be chosen by them."""
    what, where, fix = error.args
    return Finding("split", "warning", f"{what} The fit goes to its end without any.", where, fix, count=count)


def _how(
    columns: Columns, settings: SplitSettings, drawn: bool, train: Rows, valid: Rows | None, tests: dict[str, TestSet]
) -> str:
    sizes = [f"{len(train):,} train"] + ([f"{len(valid):,} valid"] if valid is not None else [])
    sizes += [f"{len(test.rows):,} {name}" for name, test in tests.items()]
    if columns.time and columns.group:
        way = f"held out by whole groups ({columns.group}), those that reach latest ({columns.time})"
    elif columns.time:
        way = f"held out by time ({columns.time})"
    elif columns.group:
        way = f"held out by whole groups ({columns.group}), seed {settings.seed}"
    else:
        way = f"stratified by target, equal {columns.modality.nouns[1]} together, seed {settings.seed}"
    given = "" if drawn else "; test rows as given"
    return f"{', '.join(sizes)} rows; {way}{given}."
