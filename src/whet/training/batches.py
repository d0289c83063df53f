"""Which examples make up each update: a pure function of (seed, stage, epoch, step).

Examples of like length share a batch, so that little is padded, yet every epoch's batches differ: the rows are
shuffled, cut into stretches of many batches, sorted by length within each, and the batches are shuffled again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from whet.data.ragged import Ragged
from whet.modalities.modality import Processor
from whet.tasks.task import Batch, Examples
from whet.training.draws import numpy_generator

Array = np.ndarray[Any, Any]
STRETCH = 128
"""Batches whose examples are sorted together."""
START_TOKENS = 192
"""What a forward and backward of one more part takes to start its operations, in tokens that could be computed."""


@dataclass(eq=False)
class Source:
    """Batches of one set of examples.

    Args:
        examples: What to draw from, with targets.
        processor: Pads inputs.
        batch_size: Examples an update at most; micro_batch_size: examples a backward.
        alike: (R,) classes of the rows: batches are then made of pairs of one class and two rows, and examples without
            a partner are left out of that epoch; a batch comes with its parts of like length. None makes batches of
            like length.
        even: (R,) classes of the rows, each of which an epoch draws equally often; None draws every example once.
        mixup: Parameter of the beta distribution of shares by which examples of a batch are mixed; 0 mixes none.
        shown: The examples as epochs look at them, one after another and over again; none looks at them as they are.
    """

    examples: Examples
    processor: Processor
    batch_size: int
    micro_batch_size: int
    seed: int
    alike: Array | None = None
    even: Array | None = None
    mixup: float = 0.0
    shown: tuple[Examples, ...] = ()
    _epochs: dict[tuple[str, int], list[Array]] = field(default_factory=dict)
    _mean: tuple[tuple[str, int], float] = (("", -1), 1.0)

    @property
    def steps_per_epoch(self) -> int:
        if self.alike is None:
            return -(-len(self.examples) // self.batch_size)
        pairs = sum(possible_pairs(rows) for rows in by_class(self.alike[self.examples.row], self.examples.row))
        return -(-pairs // max(1, self.batch_size // 2))

    def window(self, stage: str, epoch: int, step: int) -> list[Batch]:
        """The micro-batches of one update; ``step`` counts within the epoch."""
        index, view = self._order(stage, epoch)[step], self.view_of(epoch)
        if self.alike is not None:
            return [self.in_parts(index, view)]
        size = self.micro_batch_size
        batches = [self.batch(index[begin : begin + size], view) for begin in range(0, len(index), size)]
        if not self.mixup:
            return batches
        draw = numpy_generator("mixup", self.seed, stage, epoch, step)
        shares = torch.from_numpy(draw.beta(self.mixup, self.mixup, len(index)))
        return [replace(one, shares=part) for one, part in zip(batches, torch.split(shares, size), strict=True)]

    def view_of(self, epoch: int) -> int:
        """Which view an epoch looks at; the first of them, the examples as they are, comes last."""
        return (epoch + 1) % max(1, len(self.shown))

    def with_inputs(self) -> "Source":
        """The same with every input that the model would read without replay."""
        return self

    def in_parts(self, index: Array, view: int = 0) -> Batch:
        """The examples at ``index`` as one batch, shortest first, with its parts."""
        index = index[np.argsort(self.examples.lengths[index], kind="stable")]
        parts = np.split(index, like_lengths(self.examples.lengths[index])[:-1])
        return replace(self.batch(index, view), parts=tuple(self.batch(part, view) for part in parts))

    def share(self, stage: str, epoch: int, window: Sequence[Batch]) -> float:
        """What examples of an update weigh beside those of its epoch on average: a row in pieces counts as one.

        A loss of features weighs each example among those that it is compared with, so updates of it count alike.
        """
        weights = self.examples.piece_weights
        if self.alike is not None or len(self.examples) == self.examples.rows:
            return 1.0
        index = np.concatenate([batch.index for batch in window])
        order = self._order(stage, epoch)
        if self._mean[0] != (stage, epoch):
            self._mean = (stage, epoch), float(weights[np.concatenate(order)].mean(dtype=np.float64))
        return float(weights[index].mean(dtype=np.float64)) / self._mean[1]

    def batch(self, index: Array, view: int = 0) -> Batch:
        """The examples at ``index`` as padded tensors, in one of the views."""
        return make_batch(self.shown[view] if self.shown else self.examples, self.processor, index)

    def row_ids(self, batch: Batch) -> list[int]:
        """The ids of a batch's rows."""
        found: list[int] = self.examples.row_ids[self.examples.row[batch.index]].tolist()
        return found

    def _order(self, stage: str, epoch: int) -> list[Array]:
        key = (stage, epoch)
        if key not in self._epochs:
            self._epochs.clear()
            draw = numpy_generator("shuffle", self.seed, stage, epoch)
            if self.even is not None:
                drawn = balanced(self.even, self.examples.row, draw)
                found = bucketed(self.examples.lengths[drawn], self.batch_size, draw)
                self._epochs[key] = [drawn[index] for index in found]
            elif self.alike is None:
                self._epochs[key] = bucketed(self.examples.lengths, self.batch_size, draw)
            else:
                self._epochs[key] = paired(self.alike[self.examples.row], self.examples.row, self.batch_size, draw)
        return self._epochs[key]


def make_batch(
    examples: Examples, processor: Processor, index: Array, inputs: dict[str, torch.Tensor] | None = None
) -> Batch:
    """Some examples as one padded batch with targets.

    Args:
        inputs: In place of theirs, where nothing will read them.
    """
    rows = examples.row[index]
    targets = np.zeros(len(index), np.int64) if examples.targets is None else examples.targets[rows]
    return Batch(
        inputs=processor.collate(examples.taken(index)) if inputs is None else inputs,
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(examples.piece_weights[index]),
        lengths=torch.from_numpy(examples.lengths[index].astype(np.int64)),
        index=index,
        rows=torch.from_numpy(rows.astype(np.int64)),
    )


def bucketed(lengths: Array, size: int, draw: np.random.Generator) -> list[Array]:
    """Batches of like length in random order, as few as hold ``size`` at most, equally large but for one example."""
    drawn = parted(draw.permutation(len(lengths)), size)
    batches: list[Array] = []
    for begin in range(0, len(drawn), STRETCH):
        stretch = np.concatenate(drawn[begin : begin + STRETCH])
        ends = np.cumsum([len(part) for part in drawn[begin : begin + STRETCH]])[:-1]
        batches += np.split(stretch[np.argsort(lengths[stretch], kind="stable")], ends)
    return [batches[i] for i in draw.permutation(len(batches))]


def balanced(classes: Array, row: Array, draw: np.random.Generator) -> Array:
    """(E,) as many examples as there are, such that every class weighs alike, and every row within its class.

    Each example comes as often as is due to it, rounded down or up: none of a rare class is left out, none comes far
    more often than its like. Where a row is several pieces its class is drawn more often, as each piece counts less.

    Args:
        classes: (R,) of the rows; row: (E,) the row of each example.
    """
    of_examples, counts = np.unique(classes, return_inverse=True)[1], np.unique(classes, return_counts=True)[1]
    due = 1.0 / counts[of_examples[row]]
    order = draw.permutation(len(row))
    order = order[np.argsort(of_examples[row][order], kind="stable")]
    ends = np.cumsum(due[order]) * (len(row) / due.sum())
    places = np.searchsorted(ends, draw.random() + np.arange(len(row)), side="right")
    found: Array = order[np.minimum(places, len(row) - 1)]
    return found


def strata_of(targets: Array) -> Array:
    """(N,) what rows are told apart by: the class, the rarest label (-1 without any), or nothing."""
    if targets.dtype == np.int64:
        return targets
    if targets.ndim == 2:
        frequency = targets.sum(0)
        return np.where(targets.any(1), np.where(targets > 0, frequency, np.inf).argmin(1), -1)
    return np.zeros(len(targets), np.int64)


def paired(classes: Array, row: Array, size: int, draw: np.random.Generator) -> list[Array]:
    """Batches made of pairs of one class and two rows, in random order; what finds no partner is not in.

    Args:
        classes: (E,) of the examples; row: (E,) the row of each; size: examples a batch, rounded down to whole pairs.
    """
    order = draw.permutation(len(classes))
    place = draw.permutation(int(row.max(initial=-1)) + 1)
    pairs = []
    for members in by_class(classes[order], order):
        rows = row[members]
        _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
        members = members[
            np.lexsort((place[rows], -counts[inverse]))
        ]  # pieces of one text lie together, the longest text first
        count = possible_pairs(row[members])
        pairs.append(np.stack([members[:count], members[len(members) - count :]], axis=1))
    every = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    every = every[draw.permutation(len(every))]
    return [some.reshape(-1) for some in parted(every, max(1, size // 2))]


def parted(values: Array, size: int) -> list[Array]:
    """As few parts of ``size`` at most as hold all; equally long but for one, so that no update is of a few rows."""
    return np.array_split(values, -(-len(values) // size)) if len(values) else []


def like_lengths(lengths: Array) -> list[int]:
    """Where to part examples of rising length so that padding and starts of parts cost least: the end of each part."""
    number = len(lengths)
    best, last = np.zeros(number + 1), np.zeros(number + 1, np.int64)
    for end in range(1, number + 1):
        costs = best[:end] + (end - np.arange(end)) * float(lengths[end - 1]) + START_TOKENS
        last[end] = costs.argmin()
        best[end] = costs[last[end]]
    ends, end = [], number
    while end:
        ends.append(int(end))
        end = last[end]
    return ends[::-1]


def by_class(classes: Array, values: Array) -> list[Array]:
    """The values of each class, in their order."""
    order = np.argsort(classes, kind="stable")
    ends = np.cumsum(np.unique(classes, return_counts=True)[1])
    return np.split(values[order], ends[:-1])


def possible_pairs(row: Array) -> int:
    """How many pairs of two rows some examples make, each in one at most."""
    return int(min(len(row) // 2, len(row) - np.unique(row, return_counts=True)[1].max(initial=0)))


def pad_tensors(ragged: Ragged) -> torch.Tensor:
    """(B, T, ...) from arrays that differ in their first side; bfloat16 bit patterns become bfloat16."""
    shapes = ragged.shapes
    longest = int(shapes[:, 0].max())
    out = np.zeros((len(ragged), longest, *shapes[0, 1:].tolist()), ragged.values.dtype)
    for row, array in enumerate(ragged):
        out[row, : len(array)] = array
    tensor = torch.from_numpy(out.view(np.int16) if out.dtype == np.uint16 else out)
    return tensor.view(torch.bfloat16) if out.dtype == np.uint16 else tensor
