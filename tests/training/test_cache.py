"""The activation cache: rows are found by their content, and what is damaged is computed again, never used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learners.make import drained, made
from whet.backbones.text_encoder import TextEncoder
from whet.data.ragged import Ragged
from whet.learners.fitted import cut_cache, drain
from whet.tasks.task import Examples
from whet.training import replay
from whet.training.cache import ActivationCache, content_keys, trim

Array = np.ndarray[Any, Any]


def examples_of(texts: list[list[int]]) -> Examples:
    count = np.arange(len(texts), dtype=np.int32)
    inputs = {"input_ids": Ragged.pack([np.array(ids, np.uint16) for ids in texts])}
    return Examples(inputs, count, np.zeros_like(count), None, count.astype(np.int64), inputs["input_ids"].lengths)


def values_of(texts: list[list[int]]) -> dict[str, Ragged]:
    return {"hidden": Ragged.pack([np.outer(ids, [1.0, 10.0]).astype(np.float32) for ids in texts])}


def filled(folder: Path, texts: list[list[int]]) -> ActivationCache:
    cache = ActivationCache(folder)
    cache.add(content_keys(examples_of(texts)), values_of(texts))
    return cache


TEXTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]


def assert_holds(cache: ActivationCache, texts: list[list[int]]) -> None:
    keys = content_keys(examples_of(texts))
    assert len(cache.missing(keys)) == 0
    for one, other in zip(cache.get(keys)["hidden"], values_of(texts)["hidden"], strict=True):
        assert np.array_equal(one, other)


def test_rows_in_any_order_and_number_are_found_again(tmp_path: Path) -> None:
    cache = filled(tmp_path / "k", TEXTS)
    for again in (cache, ActivationCache(tmp_path / "k")):
        assert_holds(again, TEXTS)
        assert_holds(again, [TEXTS[2], TEXTS[0], TEXTS[0]])
    more = [[11], TEXTS[1], [12, 13]]
    assert cache.missing(content_keys(examples_of(more))).tolist() == [0, 2]
    cache.add(content_keys(examples_of([[11], [12, 13]])), values_of([[11], [12, 13]]))
    assert_holds(cache, [*more, *TEXTS])
    assert_holds(ActivationCache(tmp_path / "k"), [*more, *TEXTS])


def test_keys_tell_shapes_and_neighbours_apart() -> None:
    def keys(*shapes: tuple[int, ...]) -> Array:
        inputs = {"pixels": Ragged.pack([np.arange(6, dtype=np.uint8).reshape(shape) for shape in shapes])}
        count = np.arange(len(shapes), dtype=np.int32)
        return content_keys(Examples(inputs, count, count, None, count, np.full_like(count, 6)))

    found = keys((2, 3), (3, 2), (6, 1))
    assert len(np.unique(found, axis=0)) == 3
    assert len(np.unique(content_keys(examples_of([[1, 2], [2, 1], [1], [1, 2, 0]])), axis=0)) == 4


@pytest.mark.parametrize("name", ["keys.npy", "hidden.values.npy", "hidden.shapes.npy"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_torn_segment_is_computed_again(tmp_path: Path, name: str, share: float) -> None:
    filled(tmp_path / "k", TEXTS)
    path = next((tmp_path / "k").glob(f"segment-*/{name}"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    cache = ActivationCache(tmp_path / "k")
    keys = content_keys(examples_of(TEXTS))
    assert len(cache.missing(keys)) == len(TEXTS)
    cache.add(keys, values_of(TEXTS))
    assert_holds(cache, TEXTS)
    assert_holds(ActivationCache(tmp_path / "k"), TEXTS)


@pytest.mark.parametrize("name", ["keys.npy", "hidden.values.npy", "hidden.shapes.npy"])
def test_files_of_two_segments_do_not_pass_for_one(tmp_path: Path, name: str) -> None:
    filled(tmp_path / "k", TEXTS)
    filled(tmp_path / "other", TEXTS[:3])
    target, other = (next((tmp_path / place).glob(f"segment-*/{name}")) for place in ("k", "other"))
    target.write_bytes(other.read_bytes())
    assert len(ActivationCache(tmp_path / "k").missing(content_keys(examples_of(TEXTS)))) == len(TEXTS)


def test_a_missing_file_or_a_killed_write_is_no_segment(tmp_path: Path) -> None:
    filled(tmp_path / "k", TEXTS)
    next((tmp_path / "k").glob("segment-*/hidden.values.npy")).unlink()
    (tmp_path / "k" / ".new-half").mkdir()
    assert len(ActivationCache(tmp_path / "k").missing(content_keys(examples_of(TEXTS)))) == len(TEXTS)


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = filled(tmp_path / "file" / "k", TEXTS)
    assert_holds(cache, TEXTS)


def test_adding_the_same_rows_from_two_processes_is_no_error(tmp_path: Path) -> None:
    first, second = ActivationCache(tmp_path / "k"), ActivationCache(tmp_path / "k")
    for cache in (first, second):
        cache.add(content_keys(examples_of(TEXTS)), values_of(TEXTS))
        assert_holds(cache, TEXTS)
    assert len(list((tmp_path / "k").glob("segment-*"))) == 1


def test_a_cache_keeps_bits_of_every_dtype(tmp_path: Path) -> None:
    for dtype in (np.uint16, np.float32, np.float64):
        values = Ragged.pack([np.arange(6, dtype=dtype).reshape(3, 2), np.ones((1, 2), dtype)])
        cache = ActivationCache(tmp_path / np.dtype(dtype).name)
        keys = content_keys(examples_of([[1], [2]]))
        cache.add(keys, {"h": values})
        assert cache.get(keys)["h"][0].dtype == dtype


def keys_of(folder: Path, home: Path, cut: int = 1, change: Any = None, **options: Any) -> str:
    precision = options.pop("precision_of_cut", "float32")
    learner, _ = made(folder, cache=home, **options)
    from whet.learners.fitted import NeuralFitted
    from whet.training.precision import Working

    backbone = learner.backbone
    if change is not None:
        backbone = change(learner) or backbone
    working = Working(backbone.model, backbone.model)
    fitted = NeuralFitted(
        working, backbone, learner.task, learner.state, learner.columns, learner.processor, learner.machinery, home
    )
    cache = cut_cache(fitted, backbone.cuts[cut], precision)
    assert cache is not None
    return cache.folder.name


def test_whatever_could_change_a_value_changes_the_key(tiny_model: Path, tmp_path: Path) -> None:
    def touch(prefix: str) -> Any:
        def change(learner: Any) -> None:
            parameter = next(p for n, p in learner.backbone.model.named_parameters() if n.startswith(prefix))
            parameter.data.view(-1)[0] += 1e-3

        return change

    def shorter(learner: Any) -> None:
        learner.processor.max_length = 9

    def eager(learner: Any) -> Any:
        return replace(
            learner.backbone, arithmetic=TextEncoder(attention="eager").load(tiny_model, outputs=3, seed=0).arithmetic
        )

    base = keys_of(tiny_model, tmp_path)
    blocks = "body.encoder.encoder.layer."
    others = [
        keys_of(tiny_model, tmp_path, cut=2),
        keys_of(tiny_model, tmp_path, precision_of_cut="bfloat16"),
        keys_of(tiny_model, tmp_path, threads=2),
        keys_of(tiny_model, tmp_path, most_tokens=64),
        keys_of(tiny_model, tmp_path, change=touch("body.encoder.embeddings")),
        keys_of(tiny_model, tmp_path, change=touch(blocks + "0")),
        keys_of(tiny_model, tmp_path, change=shorter),
        keys_of(tiny_model, tmp_path, change=eager),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert keys_of(tiny_model, tmp_path) == base
    assert keys_of(tiny_model, tmp_path, change=touch(blocks + "1")) == base  # above the cut
    assert keys_of(tiny_model, tmp_path, change=touch("head")) == base
    assert keys_of(tiny_model, tmp_path, seed=5) == base


def test_only_new_rows_are_computed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = replay.run_prefix

    def counted(model: Any, cut: Any, examples: Examples, processor: Any, **options: Any) -> Any:
        seen.append(len(examples))
        return (yield from real(model, cut, examples, processor, **options))

    monkeypatch.setattr(replay, "run_prefix", counted)
    learner, rows = made(tiny_model, cache=tmp_path)
    cut = learner.backbone.cuts[1]
    cache = ActivationCache(tmp_path / "k")

    def run(examples: Examples) -> dict[str, Ragged]:
        return drain(  # type: ignore[no-any-return]
            replay.activations(
                learner.backbone.model, cut, examples, learner.processor, cache, stage="s", most_tokens=64
            )
        )

    most = rows.train.select(np.arange(20))
    run(most)
    every = run(rows.train)["hidden"]
    backwards = run(replay.pick(rows.train, np.arange(len(rows.train))[::-1]))["hidden"]
    assert seen == [20, len(rows.train) - 20]
    assert all(np.array_equal(one, other) for one, other in zip(backwards, list(every)[::-1], strict=True))
    fresh = drain(
        replay.activations(
            learner.backbone.model, cut, rows.train, learner.processor, None, stage="s", most_tokens=10_000
        )
    )["hidden"]
    for one, other in zip(every, fresh, strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_least_recently_used_caches_go_first(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("new", "middle", "old")):
        filled(tmp_path / name, TEXTS)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    size = sum(file.stat().st_size for file in (tmp_path / "new").rglob("*") if file.is_file())
    assert trim(tmp_path, 10 * size) == 0
    assert trim(tmp_path, 2 * size) == size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    assert trim(tmp_path / "nowhere", 0) == 0


def test_a_fit_survives_a_cache_torn_between_two_runs(tiny_model: Path, tmp_path: Path) -> None:
    from learners.make import bytes_of

    first = bytes_of(drained(*made(tiny_model, cache=tmp_path))[0])
    for path in tmp_path.glob("*/segment-*/*.values.npy"):
        path.write_bytes(path.read_bytes()[:-40])
    assert bytes_of(drained(*made(tiny_model, cache=tmp_path))[0]) == first
