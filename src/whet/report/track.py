"""How far is one stage? What its events have said so far, and the words for it."""

from whet.report.words import NOTHING, count, duration, number, one_line
from whet.training.events import Evaluated, Event, Progressed, Started, Stepped, Stopped

_REASONS = {"early": "stopped early", "clock": "stopped by the clock", "interrupt": "interrupted"}


class Track:
    """One stage, from its first event on.

    ``done`` of ``total`` in ``unit`` is the work under way; its rate is measured here, between events, since the
    events of replay and of plain training count time differently. A stage that was never started (features,
    predicting) ends when its work is done; a started one when it says so.
    """

    def __init__(self, stage: str, now: float) -> None:
        self.name = one_line(stage, 60)
        self.began = now
        self.done, self.total, self.unit = 0, 0, ""
        self.loss: float | None = None
        self.best: float | None = None
        self.reason = ""
        self.seconds = 0.0
        self._started = False
        self._first = (now, 0)
        self._now = now

    @property
    def finished(self) -> bool:
        return bool(self.reason)

    def take(self, event: Event, now: float) -> None:
        """Learn what one event says."""
        self._now = now
        if isinstance(event, Started):
            self._started, self.began = True, now
            self._work(0, event.steps, "steps")
        elif isinstance(event, Stepped):
            self.loss = event.loss
            self._work(event.step, event.steps, "steps")
        elif isinstance(event, Progressed):
            self._work(event.done, event.total, event.unit)
            if not self._started and event.done >= event.total:
                self._end("done", now - self.began)
        elif isinstance(event, Evaluated):
            self.best = event.loss if self.best is None else min(self.best, event.loss)
        elif isinstance(event, Stopped):
            self.done = event.step or self.done
            self._end(event.reason, event.seconds)

    def words(self) -> str:
        """'40/160 steps · loss 0.312 · best 0.287 · 12.3 steps/s · 10 s left'."""
        if not self.total and not self.done:
            return "solving" if self._started else ""
        parts = [f"{count(self.done)}/{count(self.total)} {one_line(self.unit, 20)}", *self._losses(), *self._rates()]
        return " · ".join(parts)

    def summary(self) -> str:
        """The line that stays: 'probe · 4.1 s', 'full · 120 steps · 18 s · best loss 0.349 · stopped early'."""
        amount = f"{count(self.done)} {one_line(self.unit, 20)}" if self.done else ""
        best = f"best loss {_loss(self.best)}" if self.best is not None else ""
        parts = (self.name, amount, duration(self.seconds), best, _REASONS.get(self.reason, ""))
        return " · ".join(part for part in parts if part)

    def _work(self, done: int, total: int, unit: str) -> None:
        if unit != self.unit or done < self.done:
            self._first = (self._now, done)
        self.done, self.total, self.unit = done, total, unit

    def _end(self, reason: str, seconds: float) -> None:
        self.reason, self.seconds = reason or "done", seconds

    def _losses(self) -> list[str]:
        loss = [f"loss {_loss(self.loss)}"] if self.loss is not None else []
        return loss + ([f"best {_loss(self.best)}"] if self.best is not None else [])

    def _rates(self) -> list[str]:
        began, at = self._first
        if self._now <= began or self.done <= at:
            return []
        rate = (self.done - at) / (self._now - began)
        return [
            f"{number(round(rate, 1))} {one_line(self.unit, 20)}/s",
            f"{duration((self.total - self.done) / rate)} left",
        ]


def _loss(value: float | None) -> str:
    return NOTHING if value is None or value != value else f"{value:.3f}"
