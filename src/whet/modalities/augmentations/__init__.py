"""What may be changed at random in an example. ``whet.modalities.augmentations.Flip()``: each by its class name."""

from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.modalities.augmentations.blur import Blur as Blur
    from whet.modalities.augmentations.colour import Colour as Colour
    from whet.modalities.augmentations.crop import Crop as Crop
    from whet.modalities.augmentations.erase import Erase as Erase
    from whet.modalities.augmentations.flip import Flip as Flip
    from whet.modalities.augmentations.flip import FlipVertical as FlipVertical
    from whet.modalities.augmentations.noise import Noise as Noise
    from whet.modalities.augmentations.rand import RandAugment as RandAugment
    from whet.modalities.augmentations.rotate import Rotate as Rotate
    from whet.modalities.augmentations.trivial import TrivialAugment as TrivialAugment


def __getattr__(name: str) -> Any:
    return catalog.by_class("augmentation", name, __name__)
