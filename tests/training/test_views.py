"""Augmented views of training examples: pure, cached, replayed equal."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import whet
from pictures import class_folders, tiny_image_model
from plain import PLAIN, rows_of
from whet.data.ragged import Ragged
from whet.errors import ConfigError
from whet.modalities.augmentations import Colour, Crop, Flip
from whet.modalities.image import Image
from whet.tasks.task import Examples
from whet.training.cache import content_keys
from whet.training.views import Augmented, views_of

pytest.importorskip("kornia")
CHOSEN = "training.augment=[crop, flip]"
SHORT = (*PLAIN, "training.epochs=3", CHOSEN)


def examples(number: int = 10, seed: int = 0) -> Examples:
    draw = np.random.default_rng(seed)
    shapes = np.tile(np.array([3, 16, 16], np.int32), (number, 1))
    values = draw.integers(0, 256, number * 3 * 16 * 16).astype(np.uint8)
    row = np.arange(number, dtype=np.int32)
    ids = row.astype(np.int64)
    return Examples({"pixel_values": Ragged.of(values, shapes)}, row, row * 0, None, ids, row * 0 + 1)


def taken(some: Examples, index: list[int]) -> list[np.ndarray]:
    return list(some.taken(np.array(index))["pixel_values"])


def test_a_view_follows_from_seed_number_and_content_alone() -> None:
    views = views_of(examples(), Image(), (Crop(), Flip()), 3, 7)
    forwards, backwards = taken(views[1], [0, 1, 2]), taken(views[1], [2, 1, 0])
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert np.array_equal(one, other)
    alone = taken(views[1].select(np.array([2])), [0])
    assert np.array_equal(alone[0], forwards[2])
    assert not np.array_equal(taken(views[2], [0])[0], forwards[0])
    other_seed = views_of(examples(), Image(), (Crop(), Flip()), 3, 8)
    assert not np.array_equal(taken(other_seed[1], [0])[0], forwards[0])
    assert np.array_equal(taken(views[0], [0])[0], examples().inputs["pixel_values"][0])


def test_one_view_is_the_examples_as_they_are_and_several_need_an_augmentation() -> None:
    assert views_of(examples(), Image(), (Crop(),), 1, 0) == ()
    with pytest.raises(ConfigError, match="need an augmentation"):
        views_of(examples(), Image(), (), 4, 0)


def test_views_have_keys_of_their_own_in_the_cache() -> None:
    some = examples()
    plain = content_keys(some)
    keys = {
        "one": Augmented(Image(), (Crop(),), 0, 1),
        "two": Augmented(Image(), (Crop(),), 0, 2),
        "seed": Augmented(Image(), (Crop(),), 1, 1),
        "other": Augmented(Image(), (Crop(least_area=0.4),), 0, 1),
        "more": Augmented(Image(), (Crop(), Colour()), 0, 1),
    }
    from dataclasses import replace

    found = [plain, *(content_keys(replace(some, view=view)) for view in keys.values())]
    assert len({one.tobytes() for one in found}) == len(found)
    again = content_keys(replace(some, view=Augmented(Image(), (Crop(),), 0, 1)))
    assert np.array_equal(again, found[1])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_replayed_views_give_the_bytes_of_views_that_are_made_anew(kind: str, here: Path) -> None:
    photos, model = class_folders(here / "photos", 20), tiny_image_model(here / "net", kind)
    found = {}
    for replay in ("auto", "off"):
        settings = (*SHORT, "training.views=2", f"machinery.replay={replay}")
        result = whet.finetune(photos, model=model, method="top-layers", settings=settings, out=f"run-{replay}")
        replayed = any("replayed from" in note for note in result.story.notes)
        assert replayed == (replay == "auto")
        found[replay] = (here / f"run-{replay}" / "model" / "model.safetensors").read_bytes()
    assert found["auto"] == found["off"]


def test_views_change_what_is_learnt_and_one_view_does_not(here: Path) -> None:
    photos, model = class_folders(here / "photos", 20), tiny_image_model(here / "net")
    found = {}
    for name, settings in (("four", (*SHORT, "training.views=4")), ("one", (*PLAIN, "training.epochs=3"))):
        more = ("training.views=1",) if name == "one" else ()
        whet.finetune(photos, model=model, method="full", settings=(*settings, *more), out=name)
        found[name] = (here / name / "model" / "model.safetensors").read_bytes()
    assert found["four"] != found["one"]


def test_a_run_with_views_that_was_stopped_ends_in_the_same_bytes(here: Path) -> None:
    photos, model = class_folders(here / "photos", 20), tiny_image_model(here / "net")
    settings = (*SHORT, "training.views=3")
    whet.finetune(photos, model=model, method="full", settings=settings, out="whole")

    def stop(event: object) -> None:
        if getattr(event, "step", 0) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whet.finetune(photos, model=model, method="full", settings=settings, out="broken", observers=[stop])
    whet.finetune(photos, model=model, method="full", settings=settings, out="broken", resume=True)
    ends = [(here / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "broken")]
    assert ends[0] == ends[1]


def test_the_plan_states_views_and_augmentations_and_gives_the_same_again(here: Path) -> None:
    photos, model = class_folders(here / "photos", 20), tiny_image_model(here / "net")
    settings = (*PLAIN, "training.epochs=2", "training.augment=[{name: rotate, degrees: 40}, colour]")
    whet.finetune(photos, model=model, method="top-layers", settings=settings, out="first")
    plan = yaml.safe_load((here / "first" / "plan.yaml").read_text())["training"]
    assert plan["views"] == 4
    assert plan["augment"] == [{"name": "rotate", "degrees": 40.0}, {"name": "colour", "strength": 0.2}]
    whet.finetune(plan=here / "first" / "plan.yaml", out="second")
    ends = [(here / run / "model" / "model.safetensors").read_bytes() for run in ("first", "second")]
    assert ends[0] == ends[1]


def test_views_of_texts_are_refused(tiny_model: Path) -> None:
    for setting, says in (
        ("training.views=4", "No augmentation of texts"),
        ("training.augment=[flip]", "image inputs"),
    ):
        with pytest.raises(ConfigError, match=says):
            whet.plan(rows_of(), "target", model=tiny_model, method="full", settings=(*PLAIN, setting))


def test_what_a_user_named_is_kept_where_a_plan_is_used_again_and_what_rows_said_is_asked_anew(here: Path) -> None:
    photos, model = class_folders(here / "photos", 20), tiny_image_model(here / "net")
    for named, kept in (("training.augment=[flip]", ["Flip"]), ("training.augment=[]", [])):
        prepared = whet.plan(photos, model=model, method="top-layers", settings=(*PLAIN, named))
        prepared.plan.write(here / "plan.yaml")
        again = whet.plan(plan=here / "plan.yaml", method="full").plan.training
        assert [type(one).__name__ for one in again.augment] == kept
    prepared = whet.plan(photos, model=model, method="top-layers", settings=PLAIN)
    prepared.plan.write(here / "plan.yaml")
    assert prepared.plan.forecast.augmenting
    assert whet.plan(plan=here / "plan.yaml", method="full").plan.forecast.augmenting


def test_views_of_methods_without_steps_are_refused(here: Path) -> None:
    photos, model = class_folders(here / "photos", 10), tiny_image_model(here / "net")
    with pytest.raises(ConfigError, match="takes no gradient steps"):
        whet.plan(photos, model=model, method="probe", settings=(*PLAIN, "training.views=4"))
    with pytest.raises(ConfigError, match="contradict"):
        whet.plan(photos, model=model, method="full", settings=(*PLAIN, "training.views=4", "training.augment=[]"))
    with pytest.raises(ConfigError, match="no augmentation named"):
        whet.plan(photos, model=model, method="full", settings=(*PLAIN, "training.augment=[flips]"))
