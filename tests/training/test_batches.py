"""Batches: each example once an epoch, the same for the same key, and little padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from whet.data.ragged import Ragged, by_length
from whet.tasks.task import Examples
from whet.training.batches import Source, balanced, bucketed, pad_tensors, strata_of
from whet.training.draws import key_seed, numpy_generator, seed_torch

LENGTHS = some.lists(some.integers(1, 200), min_size=1, max_size=300).map(lambda found: np.array(found, np.int32))


@given(LENGTHS, some.integers(1, 40), some.integers(0, 5))
def test_an_epoch_has_every_example_exactly_once(lengths: np.ndarray, size: int, epoch: int) -> None:
    batches = bucketed(lengths, size, numpy_generator("shuffle", 0, epoch))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    again = bucketed(lengths, size, numpy_generator("shuffle", 0, epoch))
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_epochs_differ_and_so_do_their_batches() -> None:
    lengths = np.random.default_rng(0).integers(5, 50, 500)
    first, second = (
        [frozenset(batch.tolist()) for batch in bucketed(lengths, 8, numpy_generator("shuffle", 0, epoch))]
        for epoch in (0, 1)
    )
    assert first != second
    assert len(set(first) & set(second)) < 5


def test_like_lengths_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 2000)
    batches = bucketed(lengths, 16, np.random.default_rng(1))
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.1 * lengths.sum()


@given(LENGTHS, some.integers(1, 500))
def test_inference_batches_hold_every_example_within_the_limit(lengths: np.ndarray, most: int) -> None:
    batches = list(by_length(lengths, most))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * int(lengths[batch].max()) <= most
        assert lengths[batch].min() >= 0.9 * lengths[batch].max()
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


SHAPES = some.tuples(some.integers(0, 5), some.integers(0, 4))
RAGGED = some.lists(arrays.arrays(np.float32, SHAPES, elements=some.floats(-9, 9, width=32)), min_size=1, max_size=8)


@given(RAGGED, some.data())
@settings(deadline=None)
def test_ragged_arrays_come_back_as_they_went_in(arrays: list[np.ndarray], data: some.DataObject) -> None:
    ragged = Ragged.pack(arrays)
    assert len(ragged) == len(arrays)
    assert all(np.array_equal(one, other) for one, other in zip(ragged, arrays, strict=True))
    index = np.array(data.draw(some.lists(some.integers(0, len(arrays) - 1), max_size=9)), np.int64)
    taken = ragged.take(index)
    for same in (taken, taken.compact(), Ragged.join([taken, ragged.take(index[:0])])):
        assert [array.tolist() for array in same] == [arrays[place].tolist() for place in index]
    assert taken.nbytes == taken.compact().values.nbytes
    assert ragged.lengths.tolist() == [len(array) for array in arrays]


def test_padding_keeps_values_and_bfloat16_patterns() -> None:
    tensors = [torch.randn(length, 3).bfloat16() for length in (2, 5, 1)]
    ragged = Ragged.pack([tensor.view(torch.int16).numpy().view(np.uint16) for tensor in tensors])
    padded = pad_tensors(ragged)
    assert padded.dtype == torch.bfloat16
    assert padded.shape == (3, 5, 3)
    for row, tensor in enumerate(tensors):
        assert torch.equal(padded[row, : len(tensor)], tensor)
        assert not padded[row, len(tensor) :].any()


def test_draws_follow_from_their_key_alone() -> None:
    assert len({key_seed("a", 1, 2), key_seed("a", 12), key_seed("a", "1", 2), key_seed("b", 1, 2)}) == 4
    seed_torch("dropout", 0, "stage", 3)
    first = torch.rand(4)
    torch.rand(100)
    seed_torch("dropout", 0, "stage", 3)
    assert torch.equal(torch.rand(4), first)
    assert 0 <= key_seed("x") < 2**63


def test_arrays_taken_twice_are_not_taken_for_those_beside_them() -> None:
    ragged = Ragged.pack([np.array([1.0]), np.array([2.0])])
    assert ragged.take(np.array([1, 1])).compact().values.tolist() == [2.0, 2.0]


def test_an_empty_collection_is_one() -> None:
    empty = Ragged.pack([])
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.nbytes == 0


def drawn(classes: np.ndarray, row: np.ndarray, epochs: int) -> np.ndarray:
    """(epochs, E) how often each example came in each epoch."""
    found = [balanced(classes, row, numpy_generator("shuffle", 0, "s", epoch)) for epoch in range(epochs)]
    assert all(len(one) == len(row) for one in found)
    return np.array([np.bincount(one, minlength=len(row)) for one in found])


def test_balanced_epochs_draw_every_class_equally_often() -> None:
    classes = np.array([0] * 90 + [1] * 25 + [4] * 5)
    counts = drawn(classes, np.arange(120), 200)
    for label in (0, 1, 4):
        share = counts[:, classes == label].sum(1)
        assert np.abs(share - 40).max() <= 2
        assert share.mean() == pytest.approx(40, abs=0.2)
        due = 40 / (classes == label).sum()
        within = counts[:, classes == label]
        assert within.min() >= np.floor(due)
        assert within.max() <= np.ceil(due)
        assert within.mean(0) == pytest.approx(np.full(within.shape[1], due), abs=0.25)
    assert not np.array_equal(counts[0], counts[1])
    assert np.array_equal(drawn(classes, np.arange(120), 1)[0], counts[0])


def test_balanced_rows_weigh_alike_however_many_pieces_they_have() -> None:
    classes = np.array([0] * 12 + [1] * 4)
    row = np.repeat(np.arange(16), [1, 2, 3, 4] * 4).astype(np.int32)
    weight = drawn(classes, row, 400).mean(0) / np.bincount(row)[row]
    of_rows = np.bincount(row, weight)
    assert of_rows[:12].sum() == pytest.approx(of_rows[12:].sum(), rel=0.03)
    assert of_rows[:12] == pytest.approx(np.full(12, of_rows[:12].mean()), rel=0.12)


@pytest.mark.parametrize("even", [False, True])
def test_every_row_of_an_epoch_counts_alike_however_many_pieces_it_has(even: bool) -> None:
    pieces = [1] * 50 + [10] * 50
    row = np.repeat(np.arange(100), pieces).astype(np.int32)
    lengths = np.where(np.repeat(pieces, pieces) > 1, 64, 9)  # so that batches are of short rows, or of long ones
    inputs = {"input_ids": Ragged.pack([np.ones(length, np.int32) for length in lengths])}
    part = np.concatenate([np.arange(count) for count in pieces]).astype(np.int32)
    examples = Examples(inputs, row, part, np.zeros(100, np.int64), np.arange(100), lengths)
    classes = np.repeat([0, 1], 50) if even else None
    source = Source(examples, Padder(), 32, 32, 0, even=classes)  # type: ignore[arg-type]
    counted = np.zeros(100)
    for step in range(source.steps_per_epoch):
        window = source.window("s", 0, step)
        weights = torch.cat([batch.weights for batch in window]).numpy()
        index = np.concatenate([batch.index for batch in window])
        np.add.at(counted, row[index], source.share("s", 0, window) * weights / weights.sum())
    assert counted.sum() == pytest.approx(source.steps_per_epoch, rel=0.02), "updates are as long as without pieces"
    assert counted[:50].mean() == pytest.approx(counted[50:].mean(), rel=0.04), "an update has 30 or 31 examples"
    assert even or counted == pytest.approx(np.full(100, counted.mean()), rel=0.04)


class Padder:
    """What a source needs of a processor."""

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, torch.Tensor]:
        return {name: pad_tensors(ragged) for name, ragged in inputs.items()}


def test_strata_are_classes_or_the_rarest_label() -> None:
    assert strata_of(np.array([2, 0, 2])).tolist() == [2, 0, 2]
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0]], np.float32)
    assert strata_of(labels).tolist() == [1, 0, -1, 2, 1]
    assert len(set(strata_of(np.array([0.5, 1.5], np.float32)).tolist())) == 1
