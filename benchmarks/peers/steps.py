"""How many examples a second does the Trainer take, once it is warm? And a stop after so many steps."""

import time
from typing import Any

from transformers import TrainerCallback

SKIPPED = 5
"""First steps that are not counted; they allocate and choose kernels."""


class StepClock(TrainerCallback):
    """Times from the end of one step to the end of the next: data loading and the Trainer's own work count.

    Args:
        rows: Training rows; batch: rows a step.
        limit: Steps after which training ends, 0 for none.
    """

    def __init__(self, rows: int, batch: int, limit: int = 0) -> None:
        self.rows, self.batch, self.limit = rows, batch, limit
        self.ends: list[float] = []
        self.paused = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.ends.append(time.perf_counter() - self.paused)
        control.should_training_stop = bool(self.limit and len(self.ends) >= self.limit)
        return control

    def examples(self, step: int) -> int:
        """Examples of one step, counted from 0; the last of an epoch may be smaller."""
        per_epoch = -(-self.rows // self.batch)
        last = step % per_epoch == per_epoch - 1
        return self.rows - (per_epoch - 1) * self.batch if last else self.batch

    @property
    def rate(self) -> float:
        """Examples a second from step ``SKIPPED`` to the last."""
        counted = sum(self.examples(step) for step in range(SKIPPED, len(self.ends)))
        return counted / (self.ends[-1] - self.ends[SKIPPED - 1])
