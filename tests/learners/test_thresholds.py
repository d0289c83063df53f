"""Thresholds of labels belong to the head that answers."""

from pathlib import Path

import numpy as np

from learners.make import QUICK, drained, made
from whet.methods.full import Full
from whet.methods.probe import Probe


def test_thresholds_of_the_head_that_steps_began_with_do_not_outlive_it(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, kind="multi-label", method=Probe(solve=QUICK), rows=60, valid=0)
    tuned = np.array(drained(learner, rows)[0].state["thresholds"])
    assert not np.allclose(tuned, 0.5), "the first head is tuned"
    steps = Full(learning_rate=3e-3, epochs=2, solve=QUICK)
    learner, rows = made(tiny_model, kind="multi-label", method=steps, rows=60, valid=0)
    fitted, _ = drained(learner, rows)
    assert fitted.features_moved
    assert fitted.state["thresholds"] == [0.5] * len(tuned), "no row is left to tune the head after the steps"
