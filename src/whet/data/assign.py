"""Which rows go to the held-out side? Three ways: by class, by whole groups, by time.

Draws are functions of (purpose, seed, content of the row), so the order of rows in a file does not matter.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from whet.data.fingerprints import is_in, repeated, same, seeded

Array = np.ndarray[Any, Any]
_STRATUM_SHIFT = np.uint64(44)  # 20 bits of stratum, 44 bits of random key in one sortable number


def hold_out_rows(hashes: Array, strata: Array, fraction: float, purpose: str, seed: int) -> Array:
    """Hold out a share of every stratum; rows with equal hashes stay together.

    Every stratum gives its share within one row (less only if equal rows fill it), and keeps a row.

    Args:
        hashes: (N,) uint64 of the inputs.
        strata: (N,) int32, numbered from 0 in an order that does not depend on that of the rows.
        fraction: Share of rows to hold out.

    Returns:
        (N,) bool. Peak memory beside the arguments: 9 bytes a row, and 4 if equal rows have several targets.
    """
    strata = _of_units(strata, hashes)
    ranked = np.empty(len(hashes), dtype=np.uint64)
    for piece in _pieces(len(hashes)):
        ranked[piece] = _sortable(hashes[piece], strata[piece], purpose, seed)
    ranked.sort()
    bounds = np.arange(int(strata.max(initial=0)) + 2, dtype=np.uint64) << _STRATUM_SHIFT
    starts = np.searchsorted(ranked, bounds)
    below, singles = _cuts(ranked, starts, _quotas(np.diff(starts), fraction))
    del ranked
    held = np.empty(len(hashes), dtype=bool)
    for piece in _pieces(len(hashes)):
        keys = _sortable(hashes[piece], strata[piece], purpose, seed)
        held[piece] = (keys < below[strata[piece]]) | is_in(keys, singles)
    return held


def hold_out_groups(groups: Array, strata: Array, fraction: float, purpose: str, seed: int) -> Array:
    """Hold out whole groups, in random order, as long as they bring every class nearer to its share.

    Args:
        groups: (N,) int64, equal for rows of one group.
        strata: (N,) int32.

    Returns:
        (N,) bool; at least one group on each side if there are two.
    """
    numbers = same(groups.view(np.uint64))
    names = np.zeros(int(numbers.max()) + 1, dtype=np.uint64)
    names[numbers] = groups.view(np.uint64)
    classes = int(strata.max()) + 1
    pairs, counts = np.unique(numbers.astype(np.int64) * classes + strata, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(len(names) + 1) * classes)
    sizes = np.bincount(numbers)
    totals = np.bincount(strata, minlength=classes)
    need, weight = fraction * totals, 1.0 / np.maximum(totals, 1)
    want, have = fraction * len(groups), 0
    chosen = np.zeros(len(names), dtype=bool)
    for group in np.argsort(seeded(names, purpose, seed)):
        mine = slice(starts[group], starts[group + 1])
        kinds, here = pairs[mine] % classes, counts[mine]
        gain = float((weight[kinds] * here * (2 * need[kinds] - here)).sum())
        if gain > 0 and have + sizes[group] <= want * 1.1:
            chosen[group], have = True, have + int(sizes[group])
            need[kinds] -= here
    if have < want / 2 and len(names) > 1:  # groups are large: the one that comes nearest
        misses = np.where(chosen, np.inf, np.abs(have + sizes - want))
        chosen[np.argmin(misses)] = not chosen.all()
    _give_back(chosen, numbers, strata, sizes)
    return np.asarray(chosen[numbers])


def hold_out_latest(times: Array, fraction: float) -> Array:
    """Hold out the latest rows; rows of one moment stay together.

    Args:
        times: (N,) float64, any unit.

    Returns:
        (N,) bool; all False if every row has the same time.
    """
    wanted = max(1, round(fraction * len(times)))
    moment = np.partition(times, len(times) - wanted)[len(times) - wanted]
    with_it, after_it = times >= moment, times > moment
    sizes = int(with_it.sum()), int(after_it.sum())
    if sizes[0] == len(times) or (sizes[1] and wanted - sizes[1] < sizes[0] - wanted):
        return np.asarray(after_it)
    return np.asarray(with_it)


def latest_of_group(times: Array, groups: Array) -> Array:
    """(N,) float64: for every row the latest time in its group, so that whole groups are early or late."""
    numbers = same(groups.view(np.uint64))
    latest = np.full(int(numbers.max()) + 1, -np.inf)
    np.maximum.at(latest, numbers, times)
    return np.asarray(latest[numbers])


def _pieces(count: int) -> Iterator[slice]:
    for start in range(0, count, 65536):
        yield slice(start, start + 65536)


def _sortable(hashes: Array, strata: Array, purpose: str, seed: int) -> Array:
    """(N,) uint64: the stratum in the high bits, a random key in the low ones; equal for equal rows."""
    keys = seeded(hashes, purpose, seed) >> (np.uint64(64) - _STRATUM_SHIFT)
    return np.asarray(keys | (strata.astype(np.uint64) << _STRATUM_SHIFT))


def _of_units(strata: Array, hashes: Array) -> Array:
    """Equal rows under several targets share one stratum, the lowest."""
    rows = repeated(hashes)
    if not len(rows):
        return strata
    rows = rows[np.argsort(hashes[rows])]
    units = hashes[rows]
    begin = np.flatnonzero(np.concatenate(([True], units[1:] != units[:-1])))
    lowest = np.minimum.reduceat(strata[rows], begin)
    shared = strata.copy()
    shared[rows] = np.repeat(lowest, np.diff(np.append(begin, len(rows))))
    return shared


def _quotas(sizes: Array, fraction: float) -> Array:
    """Rows to take per stratum: shares rounded so that they sum up, largest remainder first, one row kept."""
    exact = sizes * fraction
    quotas = np.floor(exact).astype(np.int64)
    room = quotas < sizes - 1
    missing = round(float(exact.sum())) - int(quotas.sum())
    for stratum in np.argsort(quotas - exact, kind="stable"):
        if missing <= 0:
            break
        if room[stratum] and exact[stratum] > quotas[stratum]:
            quotas[stratum] += 1
            missing -= 1
    return np.asarray(np.minimum(quotas, np.maximum(sizes - 1, 0)))


def _cuts(ranked: Array, starts: Array, quotas: Array) -> tuple[Array, Array]:
    """(K,) uint64: hold out the keys below; and single rows beyond, where whole units left a gap."""
    below = ranked[np.minimum(starts[:-1], len(ranked) - 1)]
    singles = [ranked[:0]]
    for stratum, quota in enumerate(quotas.tolist()):
        keys = ranked[starts[stratum] : starts[stratum + 1]]
        if not 0 < quota < len(keys):
            continue
        below[stratum] = keys[quota]
        begin = int(np.searchsorted(keys, keys[quota]))
        if begin < quota:  # the cut goes through a unit
            rest = keys[int(np.searchsorted(keys, keys[quota], "right")) :]
            alone = np.ones(len(rest), dtype=bool)
            alone[1:] &= rest[1:] != rest[:-1]
            alone[:-1] &= rest[1:] != rest[:-1]
            singles.append(rest[alone][: quota - begin])
    return below, np.concatenate(singles)


def _give_back(chosen: Array, numbers: Array, strata: Array, sizes: Array) -> None:
    """Return the smallest group of every class that would be left without a training row."""
    kept = np.zeros(int(strata.max()) + 1, dtype=bool)
    kept[strata[~chosen[numbers]]] = True
    for stratum in np.unique(strata):
        if not kept[stratum]:
            holders = np.unique(numbers[strata == stratum])
            back = holders[np.argmin(sizes[holders])]
            chosen[back] = False
            kept[strata[numbers == back]] = True
