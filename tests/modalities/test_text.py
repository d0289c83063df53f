"""Text to tokens: nothing is cut silently, whatever the text."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from whet.data.columns import describe_columns
from whet.data.rows import Rows
from whet.errors import ConfigError, ModelError
from whet.modalities import modality
from whet.modalities.text import Text
from whet.modalities.text_processor import MOST_WINDOWS, TextProcessor
from whet.testing import tiny_text_model

STRANGE = ["", " ", "\n\t", "\x00", "a\x00b", "🙂🙃", "é" * 40, "مرحبا", "日本語", "\u200b", "<script>", "[SEP]"]


def processor_of(folder: Path, max_length: int | None = None, pairs: bool = False) -> TextProcessor:
    return Text().processor(folder, max_length=max_length, pairs=pairs)


@pytest.fixture(scope="module")
def short(tiny_model: Path) -> TextProcessor:
    """Windows of twelve tokens."""
    return processor_of(tiny_model, 12)


def words(count: int) -> str:
    """Different words, so that a lost one is seen."""
    letters = "abcdefghij"
    return " ".join(letters[number // 10 % 10] for number in range(count))


@given(some.integers(0, 200), some.integers(8, 40))
@settings(deadline=None, max_examples=60)
def test_windows_cover_every_token_and_overlap(tiny_model: Path, count: int, length: int) -> None:
    processor = processor_of(tiny_model, length)
    text = words(count)
    found = processor.encode([(text,)])
    whole = processor_of(tiny_model, None)
    whole.tokenizer.no_truncation()
    expected = whole.tokenizer.encode(text).ids[1:-1]
    rebuilt: list[int] = []
    step = int((length - 2) * 0.25)
    for place, piece in enumerate(found.inputs["input_ids"]):
        ids = piece.tolist()
        assert len(ids) <= length
        assert (ids[0], ids[-1]) == (2, 3)
        inner = ids[1:-1]
        if place:
            assert inner[:step] == rebuilt[len(rebuilt) - step :]
            inner = inner[step:]
        rebuilt += inner
    assert rebuilt == expected
    assert found.part.tolist() == list(range(len(found.part)))
    assert found.counted == {"windowed": int(len(found.part) > 1), "tokens lost": 0}


def test_more_windows_than_are_kept_are_counted_as_lost(short: TextProcessor) -> None:
    found = short.encode([(words(2000),), ("my refund",)])
    windows = np.bincount(found.value)
    assert windows.tolist() == [MOST_WINDOWS, 1]
    assert found.counted["windowed"] == 1
    assert found.counted["tokens lost"] > 0
    first, last = found.inputs["input_ids"][0], found.inputs["input_ids"][MOST_WINDOWS - 1]
    whole = short.tokenizer.encode(words(2000))
    assert first.tolist() == whole.ids
    assert last.tolist() == whole.overflowing[-1].ids


@pytest.mark.parametrize("text", STRANGE, ids=repr)
def test_every_text_becomes_at_least_one_window(short: TextProcessor, text: str) -> None:
    found = short.encode([(text,), ("login",)])
    assert set(found.value.tolist()) == {0, 1}
    assert int(found.inputs["input_ids"].lengths.min()) >= 2
    batch = short.collate(found.inputs)
    assert batch["input_ids"].dtype == torch.int64


def test_half_a_surrogate_is_no_reason_to_stop(short: TextProcessor) -> None:
    found = short.encode([("a \ud83d",), ("login",)])
    assert found.value.tolist() == [0, 1]
    assert found.inputs["input_ids"][1].tolist() == short.encode([("login",)]).inputs["input_ids"][0].tolist()


def test_texts_do_not_depend_on_those_beside_them(short: TextProcessor) -> None:
    texts = [("refund my payment",), (words(60),), ("",), ("login",)]
    together = short.encode(texts)
    for place, text in enumerate(texts):
        alone = short.encode([text])
        mine = together.inputs["input_ids"].take(np.flatnonzero(together.value == place))
        assert [a.tolist() for a in mine] == [a.tolist() for a in alone.inputs["input_ids"]]


def test_no_values_give_no_pieces(short: TextProcessor) -> None:
    found = short.encode([])
    assert len(found.value) == len(found.part) == len(found.inputs["input_ids"]) == 0


def test_a_mask_comes_only_where_something_is_padded(short: TextProcessor) -> None:
    alike = short.collate(short.encode([("refund my",), ("login is",)]).inputs)
    assert set(alike) == {"input_ids"}
    ragged = short.collate(short.encode([("refund my payment",), ("login",)]).inputs)
    assert ragged["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert (ragged["input_ids"][1, 3:] == short.pad_id).all()


def test_pairs_are_encoded_jointly(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "m", layers=1, pairs=True)
    processor = processor_of(folder, pairs=True)
    found = processor.encode([("my refund", "is late"), ("", "")])
    ids, types = found.inputs["input_ids"][0].tolist(), found.inputs["token_type_ids"][0].tolist()
    assert (ids[0], ids.count(3), ids[-1]) == (2, 2, 3)
    assert types == [0, 0, 0, 0, 1, 1, 1]
    assert found.inputs["input_ids"][1].tolist() == [2, 3, 3]
    swapped = processor.encode([("is late", "my refund")]).inputs["input_ids"][0].tolist()
    assert sorted(swapped) == sorted(ids)
    assert swapped != ids


@pytest.mark.parametrize(("first", "second"), [(60, 3), (3, 60), (60, 60), (20, 20)])
def test_every_token_of_a_long_pair_is_in_some_window(tmp_path: Path, first: int, second: int) -> None:
    folder = tiny_text_model(tmp_path / "m", layers=1, pairs=True)
    processor = processor_of(folder, 16, pairs=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    texts = (" ".join((letters * 2)[:first]), " ".join((letters * 2)[:second]))
    found = processor.encode([texts])
    plain = processor_of(folder, None, pairs=True)
    plain.tokenizer.no_truncation()
    seen: list[set[int]] = [set(), set()]
    for ids, types in zip(found.inputs["input_ids"], found.inputs["token_type_ids"], strict=True):
        assert len(ids) <= 16
        for side in (0, 1):
            seen[side] |= set(ids[types == side].tolist())
    for side, text in enumerate(texts):
        wanted = set(plain.tokenizer.encode(text).ids)
        assert wanted <= seen[side] | {2, 3}
    assert found.counted == {"windowed": 1, "tokens lost": 0}
    assert len(found.value) <= 2 + max(first, second) // 4


def test_the_fingerprint_changes_with_whatever_changes_tokens(tiny_model: Path, tmp_path: Path) -> None:
    other = tiny_text_model(tmp_path / "other", layers=1)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"lowercase":true', '"lowercase":false').replace(
        '"lowercase": true', '"lowercase": false'))  # fmt: skip
    found = [
        processor_of(tiny_model).fingerprint(),
        processor_of(tiny_model, 12).fingerprint(),
        processor_of(tiny_model, 13).fingerprint(),
        processor_of(tiny_model, pairs=True).fingerprint(),
        processor_of(other).fingerprint(),
    ]
    assert len(set(found)) == len(found)
    assert processor_of(tiny_model, 12).fingerprint() == found[1]


@pytest.mark.parametrize("length", [0, 7, 65, -1])
def test_a_max_length_that_the_model_cannot_take_is_refused(tiny_model: Path, length: int) -> None:
    with pytest.raises(ConfigError, match=f"max_length {length}") as caught:
        processor_of(tiny_model, length)
    assert "between 8 and 64" in caught.value.fix


@pytest.mark.parametrize("length", [8, 64])
def test_the_bounds_themselves_work(tiny_model: Path, length: int) -> None:
    found = processor_of(tiny_model, length).encode([(words(100),)])
    assert int(found.inputs["input_ids"].lengths.max()) == length


def test_the_shortest_pairs_still_have_room(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "m", layers=1, pairs=True)
    found = processor_of(folder, 8, pairs=True).encode([(words(30), words(30))])
    assert int(found.inputs["input_ids"].lengths.max()) <= 8


def test_a_walk_shows_every_step(short: TextProcessor) -> None:
    steps = dict(short.walk((words(40),)))
    assert list(steps) == ["text", "tokens", "windows", "ids"]
    assert steps["windows"].endswith("of at most 12 tokens")
    assert int(steps["windows"].split()[0]) == len(short.encode([(words(40),)]).value)


def test_long_and_different_texts_suit_best() -> None:
    names = ("long", "short", "class", "number")
    values = {"long": [str(n) * 60 for n in range(1000, 1040)], "short": [f"word {n}" for n in range(40)]}
    rows = Rows(pa.table({**values, "class": ["a longer word"] * 40, "number": list(range(40))}), "rows")
    scores = [Text().recognise(column) for column in describe_columns(rows)]
    assert sorted(names, key=lambda name: -scores[names.index(name)]) == list(names)
    assert scores[-1] == 0


def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "m", layers=1)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "NoSuchTokenizer"}))
    with pytest.raises(ModelError, match="no tokenizer"):
        processor_of(folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        processor_of(folder)


@pytest.mark.parametrize(("first", "most"), [(64, 2**24), (3, 40), (1, 1), (5, 90)])
def test_values_in_portions_are_the_same_pieces(
    first: int, most: int, short: TextProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modality, "FIRST", first)
    monkeypatch.setattr(modality, "PORTION_BYTES", most)
    values = [(words(count),) for count in (3, 40, 0, 25, 7, 90, 1, 1, 30, 2)]
    whole = short.encode(values)
    found = list(modality.in_portions(short, values))
    assert len(found) == 1 if most == 2**24 else len(found) > 1
    assert np.array_equal(np.concatenate([begin + one.value for begin, one in found]), whole.value)
    assert np.array_equal(np.concatenate([one.part for _, one in found]), whole.part)
    assert np.array_equal(np.concatenate([one.lengths for _, one in found]), whole.lengths)
    ids = [array.tolist() for _, one in found for array in one.inputs["input_ids"]]
    assert ids == [array.tolist() for array in whole.inputs["input_ids"]]
    assert sum(one.counted["windowed"] for _, one in found) == whole.counted["windowed"]
    assert list(modality.in_portions(short, [])) == []
