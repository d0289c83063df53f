"""Law: blocks that run again in the backward give the same bytes, under replay, dropout, inserted modules, parts."""

from pathlib import Path

import pytest
import torch

from learners.make import QUICK, TOP, bytes_of, drained, made
from whet.errors import ConfigError
from whet.methods.full import Full
from whet.methods.lora import LoRA
from whet.methods.method import Method
from whet.training.recompute import recomputed
from whet.training.settings import Training

METHODS = [TOP, Full(learning_rate=1e-3, epochs=2, solve=QUICK), LoRA(rank=2, epochs=2, solve=QUICK)]


@pytest.mark.parametrize("method", METHODS, ids=["top-layers", "full", "lora"])
@pytest.mark.parametrize("replay", ["auto", "off"])
def test_blocks_that_run_again_change_no_byte(tiny_model: Path, method: Method, replay: str) -> None:
    found = []
    for again in (False, True):
        training = Training(batch_size=8, micro_batch_size=3, gradient_checkpointing=again)
        learner, rows = made(tiny_model, method=method, dropout=0.2, training=training, replay=replay)
        found.append(bytes_of(drained(learner, rows)[0]))
    assert found[0] == found[1]


def test_blocks_keep_less_while_they_run_again(tiny_model: Path) -> None:
    kept = {}
    for again in (False, True):
        learner, _ = made(tiny_model, method=METHODS[1])
        backbone = learner.backbone
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        inputs = {"input_ids": torch.randint(5, 20, (4, 12))}
        with (
            recomputed(backbone.model, backbone.blocks, again),
            torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
        ):
            backbone.model(**inputs)
        kept[again] = sum(sizes)
    assert kept[True] < kept[False] / 2


def test_blocks_are_as_before_afterwards(tiny_model: Path) -> None:
    learner, _ = made(tiny_model)
    backbone = learner.backbone
    blocks = [backbone.model.get_submodule(name) for name in backbone.blocks]
    with recomputed(backbone.model, backbone.blocks, True):
        assert all("forward" in vars(block) for block in blocks)
    assert not any("forward" in vars(block) for block in blocks)


def test_a_model_without_a_chain_of_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no chain"), recomputed(torch.nn.Linear(2, 2), (), True):
        pass
