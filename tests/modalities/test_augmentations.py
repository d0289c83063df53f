"""Random changes of pictures: what each may and may not do."""

import numpy as np
import pytest
import torch

from pictures import picture
from whet import catalog
from whet.data.ragged import Ragged
from whet.errors import ConfigError
from whet.modalities.augmentations import (
    Blur,
    Colour,
    Crop,
    Erase,
    Flip,
    FlipVertical,
    Noise,
    RandAugment,
    Rotate,
    TrivialAugment,
)
from whet.modalities.augmentations.operations import OPERATIONS
from whet.modalities.image import Image
from whet.modalities.image_views import changed
from whet.testing import check_augmentation

pytest.importorskip("kornia")
NAMES = tuple(catalog.members("augmentation"))


def pixels(number: int = 12, side: int = 32) -> torch.Tensor:
    shapes = [np.asarray(picture("cross", seed, side)).transpose(2, 0, 1) for seed in range(number)]
    return torch.from_numpy(np.stack(shapes))


def draws(number: int = 12, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, one]) for one in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_keep_shape_and_type_and_most_of_a_batch_changes(name: str) -> None:
    before = pixels()
    after = changed(before, (catalog.find("augmentation", name)(),), draws())
    assert after.shape == before.shape
    assert after.dtype == torch.uint8
    differ = (after != before).flatten(1).any(1)
    assert differ.sum() >= 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_of_other_channels_are_taken(name: str, channels: int) -> None:
    some = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, channels, 20, 28), np.uint8))
    assert changed(some, (catalog.find("augmentation", name)(),), draws(6)).shape == some.shape


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_keeps_the_contract(name: str) -> None:
    inputs = {"pixel_values": Ragged.pack(list(pixels().numpy()))}
    check_augmentation(catalog.find("augmentation", name)(), Image(), inputs)


def test_a_mirror_is_exact_and_twice_a_mirror_is_nothing() -> None:
    before = pixels()
    after = changed(before, (Flip(),), draws())
    same, mirrored = (after == before).flatten(1).all(1), (after == before.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 0 < int(mirrored.sum()) < len(before)
    fallen = changed(before, (FlipVertical(),), draws())
    assert bool(((fallen == before.flip(2)).flatten(1).all(1) ^ (fallen == before).flatten(1).all(1)).all())


def test_a_turn_keeps_round_things_round() -> None:
    side = 65
    middle = torch.arange(side) - side // 2
    disc = ((middle[:, None] ** 2 + middle[None, :] ** 2) < 20**2).to(torch.uint8) * 255
    wide = torch.nn.functional.pad(disc, (40, 40))[None, None].expand(8, 3, side, side + 80)
    turned = changed(wide.contiguous(), (Rotate(degrees=15),), draws(8))
    assert float((turned.int() - wide.int()).abs().float().mean()) < 2.0


def test_crops_are_parts_of_the_picture_and_never_reach_outside() -> None:
    ramp = torch.linspace(40, 200, 64).round().to(torch.uint8).expand(20, 3, 64, 64).contiguous()
    after = changed(ramp, (Crop(least_area=0.3),), draws(20))
    assert after.min() >= 40
    assert after.max() <= 200
    spans = after.float().amax((1, 2, 3)) - after.float().amin((1, 2, 3))
    assert float(spans.min()) < 120
    assert bool((after[:, :, :, 1:].int() >= after[:, :, :, :-1].int()).all())  # no mirrored edges


def test_moves_are_put_together_in_the_order_they_are_named() -> None:
    """A picture mirrored and then cropped is resampled once, and so equals both at once but for rounding."""
    before = pixels(16)
    both = changed(before, (Flip(), Crop()), draws(16))
    first = draws(16)
    then = changed(changed(before, (Flip(),), first), (Crop(),), first)
    assert int((both.int() - then.int()).abs().max()) <= 1


def test_erased_parts_have_the_mean_colour_and_a_size_within_bounds() -> None:
    before = pixels(40)
    after = changed(before, (Erase(most_area=0.1),), draws(40))
    shares = (after != before).any(1).float().mean((1, 2))
    assert float(shares.max()) <= 0.13
    assert 10 <= int((shares > 0).sum()) <= 30


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_operations_stay_between_black_and_white(number: int) -> None:
    some = pixels(6).float() / 255
    for strength in (-1.0, -0.3, 0.0, 0.7, 1.0):
        found = OPERATIONS[number](some, np.full(6, strength))
        assert found.shape == some.shape
        assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Crop(least_area=0.0),
        lambda: Crop(most_stretch=0.5),
        lambda: Rotate(degrees=0.0),
        lambda: Colour(strength=1.0),
        lambda: Blur(most=-1.0),
        lambda: Noise(most=2.0),
        lambda: Erase(most_area=0.9),
        lambda: RandAugment(count=0),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        make()  # type: ignore[operator]


def test_what_is_no_augmentation_of_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither moves pixels"):
        changed(pixels(1), (object(),), draws(1))  # type: ignore[arg-type]


def test_tiny_pictures_are_taken() -> None:
    some = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8), np.uint8))
    every = (Crop(), Flip(), Rotate(), Colour(), Blur(), Noise(), Erase(), TrivialAugment(), RandAugment())
    assert changed(some, every, draws(8)).shape == some.shape
