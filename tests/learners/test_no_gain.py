"""Gradient steps that only harm leave what the probe gives."""

from pathlib import Path

import torch

from learners.make import QUICK, drained, made
from whet.learners.frozen_probe import FrozenProbe
from whet.learners.learner import Material
from whet.methods.method import Solve
from whet.methods.probe import Probe
from whet.methods.reinit import Reinit
from whet.methods.top_layers import TopLayers
from whet.tasks.classification import Classification
from whet.testing import tiny_rows
from whet.training.events import Said
from whet.training.settings import Training


def material(rows: int = 28) -> Material:
    """What a baseline would learn from."""
    every, columns = tiny_rows("classification", rows)
    task = Classification()
    state, _ = task.prepare(every, columns)
    return Material(task, state, columns, every, task.encode_targets(every, columns, state))


def test_steps_that_never_help_leave_the_solved_probe(tiny_model: Path) -> None:
    harmful = TopLayers(2, learning_rate=9.0, epochs=1, solve=Solve(penalties=(0.01,), folds=2))
    fitted, events = drained(*made(tiny_model, method=harmful))
    probe, _ = drained(*made(tiny_model, method=Probe()))
    assert any(isinstance(event, Said) and "No step lowered" in event.message for event in events)
    assert not fitted.features_moved
    assert FrozenProbe().is_model(fitted, material())
    assert not FrozenProbe().is_model(fitted, material(rows=38))  # with validation rows a head is another
    expected = probe.model.state_dict()
    for name, tensor in fitted.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


def test_features_that_the_method_changed_before_its_steps_are_not_called_the_frozen_probes(tiny_model: Path) -> None:
    """Else the baseline would be given the model's answers, and the verdict would lose what is hardest to beat."""
    harmful = Reinit(count=1, learning_rate=9.0, epochs=1, solve=QUICK)
    fitted, events = drained(*made(tiny_model, method=harmful, training=Training(batch_size=8)))
    assert any(isinstance(event, Said) and "No step lowered" in event.message for event in events)
    assert not fitted.features_moved
    assert not FrozenProbe().is_model(fitted, material())
    assert not any("untouched" in note for note in fitted.notes)
    probe, _ = drained(*made(tiny_model, method=Probe()))
    assert not torch.equal(fitted.model.head.weight, probe.model.head.weight)
