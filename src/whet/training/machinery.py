"""How the arithmetic of a fit is done: measured at plan time, never remade."""

from dataclasses import dataclass
from typing import Literal

from whet.backbones.precisions import Precision
from whet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """How the arithmetic is done: measured at plan time, never remade.

    Args:
        precision: Of forward passes without gradients; training_precision: of steps.
        most_tokens: Padded positions a batch of inference.
        memory_limit_bytes: What a run may take of memory; 0 is what the machine or its container has.
        compile: Steps of compiled blocks: "on", "off", or "auto" where a dry run says that it pays back; a plan that is
            written has it decided.
        replay: "auto" where it pays and is verified, or "off".
        most_cache_bytes: A cut whose activations would be larger is not cached.
        most_kept_bytes: Of the caches of all runs together; beyond it those least recently used are deleted.
        checkpoint_seconds: Time between checkpoints of a stage; 0 writes one after every step.
        checkpoint_epochs: Epochs between checkpoints, such as 1 or 0.5, beside those by time; 0 goes by time alone.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    training_precision: Precision = "float32"
    threads: int = 1
    most_tokens: int = 4096
    memory_limit_bytes: int = 0
    compile: Literal["auto", "on", "off"] = "auto"
    replay: Literal["auto", "off"] = "auto"
    most_cache_bytes: int = 4 * 2**30
    most_kept_bytes: int = 20 * 2**30
    checkpoint_seconds: float = 60.0
    checkpoint_epochs: float = 0.0

    def __post_init__(self) -> None:
        least = {
            "threads": 1,
            "most_tokens": 1,
            "memory_limit_bytes": 0,
            "most_cache_bytes": 0,
            "most_kept_bytes": 0,
            "checkpoint_seconds": 0,
            "checkpoint_epochs": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value < low:
                raise ConfigError(
                    f"{name} cannot be {value}.", where=f"machinery.{name}", fix=f"use {low} or more, or leave it out"
                )
