"""Gradient steps that only harm leave what the probe gives."""

from pathlib import Path

import torch

from learners.make import drained, made
from whet.methods.method import Solve
from whet.methods.probe import Probe
from whet.methods.top_layers import TopLayers
from whet.training.events import Said


def test_steps_that_never_help_leave_the_solved_probe(tiny_model: Path) -> None:
    harmful = TopLayers(2, learning_rate=9.0, epochs=1, solve=Solve(penalties=(0.01,), folds=2))
    fitted, events = drained(*made(tiny_model, method=harmful))
    probe, _ = drained(*made(tiny_model, method=Probe()))
    assert any(isinstance(event, Said) and "No step lowered" in event.message for event in events)
    assert not fitted.features_moved
    expected = probe.model.state_dict()
    for name, tensor in fitted.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)
