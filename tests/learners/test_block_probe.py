"""Laws of the probes of blocks: the last is the probe method's own head, and memory decides how many rows are read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from whet.learners.block_probe import Readings, affordable, read_blocks
from whet.learners.fitted import drain
from whet.learners.neural import Pretrained, TrainingRows
from whet.methods.method import Solve
from whet.methods.probe import Probe
from whet.tasks.predictions import Kind

from .make import drained, made

SOLVE = Solve(penalties=(1.0, 0.1, 0.01), folds=3)
KINDS: list[Kind] = ["classification", "multi-label", "regression"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_last_block_is_read_by_the_probe_methods_own_head(tiny_model: Path, kind: Kind, precision: str) -> None:
    learner, rows = made(tiny_model, kind=kind, method=Probe(solve=SOLVE), valid=0, rows=40, precision=precision)
    units = np.arange(40) // 2
    fitted, _ = drained(learner, TrainingRows(rows.train, None, units))
    found = read(learner_model(tiny_model, precision), learner, rows, units)
    last = found.heads[-1]
    assert found.depths == (0, 1, 2, 3)
    assert torch.equal(fitted.model.head.weight, last.solved.weight)
    assert torch.equal(fitted.model.head.bias, last.solved.bias)
    assert fitted.state == learner.task.tune(last.solved.held_out.numpy(), rows.train.targets, learner.state)


def test_every_row_goes_through_every_block_once_but_for_the_few_that_are_tried_first(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=Probe(solve=SOLVE), valid=0, rows=40)
    pretrained = learner_model(tiny_model)
    outputs = learner.task.outputs(learner.state)
    blocks = pretrained.load(outputs).blocks
    seen = dict.fromkeys(blocks, 0)

    def count(name: str, args: tuple[torch.Tensor, ...]) -> None:
        seen[name] += len(args[0])

    pristine = next(iter(pretrained._loaded.values())).model  # copies of a model keep its hooks
    for name in blocks:
        pristine.get_submodule(name).register_forward_hook(lambda _, args, out, name=name: count(name, args))
    read(pretrained, learner, rows, np.arange(40))
    assert seen == dict.fromkeys(blocks, 40 + 4)


def test_a_head_without_features_answers_every_row_of_a_fold_alike(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=Probe(solve=SOLVE), valid=0, rows=40)
    found = read(learner_model(tiny_model), learner, rows, np.arange(40))
    assert len(np.unique(found.without.answers.scores.round(5), axis=0)) <= SOLVE.folds


def test_features_beyond_the_limit_are_of_a_sample_that_is_said(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=Probe(solve=SOLVE), valid=0, rows=40)
    half = 4 * 32 * 4 * 20  # depths x width x float32 x rows
    found = read(learner_model(tiny_model), learner, rows, np.arange(40), most_bytes=half)
    assert found.rows == 20
    assert set(found.heads[0].answers.row_ids) <= set(rows.train.row_ids)
    assert "Read on 20 of 40 rows" in found.notes[0]
    again = affordable(rows.train, 4 * 32 * 4, half, seed=0)
    assert again is not None
    assert found.heads[0].answers.row_ids.tolist() == rows.train.row_ids[again].tolist()


def learner_model(folder: Path, precision: str = "float32") -> Pretrained:
    from whet.backbones.text_encoder import TextEncoder
    from whet.modalities.text import Text
    from whet.training.machinery import Machinery

    processor = Text().processor(folder, max_length=None, pairs=False)
    machinery = Machinery(precision=precision)  # type: ignore[arg-type]
    return Pretrained(TextEncoder(dropout=0.0), folder, processor, machinery, 0)


def read(pretrained: Pretrained, learner, rows: TrainingRows, units, **options: int) -> Readings:  # type: ignore[no-untyped-def]
    found: Readings = drain(read_blocks(pretrained, learner.task, learner.state, rows.train, units, SOLVE, **options))
    return found
