"""Long texts: several pieces a row, each row counted once, and outputs of pieces averaged."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from whet.backbones.cut import FeatureCut
from whet.backbones.text_encoder import TextEncoder
from whet.data.rows import Columns, Rows
from whet.learners.fitted import drain, row_features
from whet.modalities import modality
from whet.modalities.text import Text
from whet.tasks import encode
from whet.tasks.classification import Classification
from whet.tasks.task import Examples
from whet.testing import tiny_rows
from whet.training.objective import ReplaySource, answers, loss_shares
from whet.training.replay import activations

TASK = Classification()


def encoded(folder: Path, texts: list[str], length: int | None = 10) -> Examples:
    rows = Rows(pa.table({"text": texts, "target": ["a", "b"] * (len(texts) // 2)}), "rows")
    processor = Text().processor(folder, max_length=length, pairs=False)
    columns = Columns(("text",), ("target",))
    return TASK.encode(rows, columns, processor, TASK.prepare(rows, columns)[0], targeted=True)


TEXTS = ["refund " * 30, "login", "my parcel is late " * 5, ""]


def test_a_long_text_is_several_pieces_of_one_row(tiny_model: Path) -> None:
    examples = encoded(tiny_model, TEXTS)
    assert set(examples.row.tolist()) == {0, 1, 2, 3}
    assert np.bincount(examples.row, examples.piece_weights) == pytest.approx(np.ones(4))
    assert examples.counted["windowed"] == 2
    assert len(encoded(tiny_model, TEXTS, None)) < len(examples)


def test_encoding_in_chunks_or_through_a_file_gives_the_same(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = TEXTS * 5
    whole = encoded(tiny_model, texts)
    monkeypatch.setattr(encode, "CHUNK", 3)
    chunked = encoded(tiny_model, texts)
    monkeypatch.setattr(encode, "SPILL_BYTES", 100)
    monkeypatch.setattr(modality, "FIRST", 2)
    monkeypatch.setattr(modality, "PORTION_BYTES", 100)
    spilled = encoded(tiny_model, texts)
    for other in (chunked, spilled):
        assert np.array_equal(other.row, whole.row)
        assert np.array_equal(other.part, whole.part)
        assert other.counted == whole.counted
        pairs = zip(other.inputs["input_ids"], whole.inputs["input_ids"], strict=True)
        assert all(np.array_equal(one, two) for one, two in pairs)


def test_features_of_a_row_are_the_mean_of_its_pieces(tiny_model: Path) -> None:
    examples = encoded(tiny_model, TEXTS)
    backbone = TextEncoder().load(tiny_model, outputs=2, seed=0)
    processor = Text().processor(tiny_model, max_length=10, pairs=False)
    cut = FeatureCut()
    found = drain(activations(backbone.model, cut, examples, processor, None, stage="s", most_tokens=40))["features"]
    by_row = row_features(found, examples)
    for row in range(4):
        pieces = [found[place] for place in np.flatnonzero(examples.row == row)]
        assert by_row[row] == pytest.approx(np.mean(pieces, axis=0), rel=1e-4, abs=1e-6)


def test_the_size_of_batches_and_a_needless_mask_do_not_move_answers_or_the_loss(tiny_model: Path) -> None:
    rows, columns = tiny_rows("classification", 24)
    processor = Text().processor(tiny_model, max_length=None, pairs=False)
    state, _ = TASK.prepare(rows, columns)
    examples = TASK.encode(rows, columns, processor, state, targeted=True)
    model = TextEncoder().load(tiny_model, outputs=3, seed=0).model
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    source = ReplaySource(examples, processor, 8, 8, 0)
    outputs = [answers(model, source, None, most) for most in (1, 30, 100, 10_000)]
    assert examples.targets is not None
    losses = [float(loss_shares(TASK, state, each, examples.targets).sum()) for each in outputs]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)
    with torch.no_grad():
        batch = source.batch(np.arange(24))
        together = model(**batch.inputs)
        for place in range(24):
            alone = dict(source.batch(np.array([place])).inputs)
            assert "attention_mask" not in alone
            torch.testing.assert_close(model(**alone)[0], together[place], rtol=1e-4, atol=1e-5)
            alone["attention_mask"] = torch.ones_like(alone["input_ids"])
            torch.testing.assert_close(model(**alone)[0], together[place], rtol=1e-4, atol=1e-5)
