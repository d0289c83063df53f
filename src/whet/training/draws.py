"""Every random draw is a function of its key, so that a resumed run draws what an unbroken one would have drawn.

Keys name the purpose, the seed and the place (stage, epoch, step, ...); nothing depends on what was drawn before.
"""

import numpy as np
import torch
import xxhash


def key_seed(purpose: str, *key: int | str) -> int:
    """A 63-bit number that depends on every part of the key."""
    return xxhash.xxh3_64_intdigest(repr((purpose, *key)).encode()) >> 1


def numpy_generator(purpose: str, *key: int | str) -> np.random.Generator:
    """A fresh NumPy generator for this key."""
    return np.random.Generator(np.random.PCG64(key_seed(purpose, *key)))


def seed_torch(purpose: str, *key: int | str) -> None:
    """Set torch's global generator, from which dropout draws, to this key."""
    torch.manual_seed(key_seed(purpose, *key))
