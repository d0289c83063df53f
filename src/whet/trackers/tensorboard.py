"""Curves for TensorBoard: losses, rate and speed of every stage while they are made, and the scores at the end.

The files are written through ``torch.utils.tensorboard``, which needs the package tensorboard; nothing is served.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.trackers.tracker import Order, require_package
from whet.training.events import Evaluated, Event, Fitting, Judged, Stepped

FOLDER = "tensorboard"
FLUSH_SECONDS = 10
BEFORE: Order = (-1, False)


@dataclass(frozen=True)
class TensorBoard:
    """Event files below ``tracks/tensorboard``, one folder (in its words, one run) a stage, so that curves overlay.

    Scalars by step: ``loss/train``, ``loss/valid``, ``learning_rate``, ``examples_per_second``. The scores of the model
    stand in the folder ``scores``, by test set and metric.
    """

    def require(self) -> None:
        require_package("tensorboard", "The tracker tensorboard", "tensorboard")

    def open(self, folder: Path) -> "Curves":
        return Curves(folder / FOLDER)

    def view(self, folder: Path) -> str:
        return f"tensorboard --logdir {shlex.quote(str(folder / FOLDER))}"

    def account(self, folder: Path) -> None:
        """The curves of a report are made of the events themselves."""


class Curves:
    """The writers of one run: one stage's at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fit, self._method = 0, ""
        self._writer: Any = None
        self._place = ""
        self._last: dict[str, Order] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fitting):
            self._fit, self._method = self._fit + 1, event.stage
        elif isinstance(event, Stepped):
            writer = self._at(event, (event.step, False))
            writer.add_scalar("loss/train", event.loss, event.step)
            writer.add_scalar("learning_rate", event.learning_rate, event.step)
            if event.seconds > 0:
                writer.add_scalar("examples_per_second", event.examples / event.seconds, event.step)
        elif isinstance(event, Evaluated):
            self._at(event, (event.step, True)).add_scalar("loss/valid", event.loss, event.step)
        elif isinstance(event, Judged):
            writer = self._open("scores")
            for test, scores in event.scores.items():
                for metric, value in scores.items():
                    writer.add_scalar(f"{plain(test)}/{plain(metric)}", value, 0)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _at(self, event: Event, order: Order) -> Any:
        """The writer of the event's stage; a run that went on from before makes viewers forget what followed."""
        place = plain("-".join(dict.fromkeys((str(self._fit), self._method, event.stage))))
        before = self._last.get(place)
        heard = (self.folder / place).exists() if before is None else order <= before
        if heard or place != self._place:
            step, evaluated = order  # an evaluation leaves its own step's loss as it is
            self._open(place, purge=step + evaluated if heard else None)
        self._last[place] = order
        return self._writer

    def _open(self, place: str, purge: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._place = place
        self._writer = SummaryWriter(str(self.folder / place), purge_step=purge, flush_secs=FLUSH_SECONDS)
        return self._writer


def plain(name: str) -> str:
    """A name of a folder or a tag: letters, digits, dots, dashes."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "unnamed"
