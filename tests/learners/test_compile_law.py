"""Compiled blocks take the same steps up to rounding; resumed after a kill they give the same bytes (law 3)."""

import shutil
from pathlib import Path

import pytest
import torch

from learners.make import QUICK, TOP, bytes_of, drained, made
from whet.errors import ConfigError
from whet.learners.fitted import NeuralFitted
from whet.methods.full import Full
from whet.methods.lora import LoRA
from whet.training.compiling import compiled
from whet.training.events import Checkpointed
from whet.training.settings import Training

pytestmark = [
    pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, such as g++"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),  # of torch's own modules, once they are imported
]
METHODS = {
    "top-layers": TOP,
    "full": Full(learning_rate=1e-3, epochs=2, solve=QUICK),
    "lora": LoRA(rank=2, epochs=2, solve=QUICK),
}


@pytest.fixture(autouse=True)
def _a_process_that_compiled_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    torch.compiler.reset()


def fitted_by(folder: Path, method: str, compile_: str, again: bool = False) -> NeuralFitted:
    training = Training(batch_size=8, micro_batch_size=4, gradient_checkpointing=again)
    learner, rows = made(folder, method=METHODS[method], dropout=0.2, training=training, valid=0, compile=compile_)
    return drained(learner, rows)[0]


@pytest.mark.parametrize(("method", "again"), [("top-layers", False), ("full", True), ("lora", False)])
def test_compiled_steps_are_the_plain_ones_up_to_rounding(tiny_model: Path, method: str, again: bool) -> None:
    """Dropout among them: the same bytes are drawn in the same order."""
    plain, fast = (fitted_by(tiny_model, method, how, again) for how in ("off", "on"))
    start = METHODS[method]
    learner, _ = made(tiny_model, method=start)
    before = learner.backbone.model.state_dict()
    others = fast.model.state_dict()
    moved = 0
    for name, tensor in plain.model.state_dict().items():
        if name.endswith("key.bias"):  # adds the same to every score, so its gradient is rounding alone
            continue
        assert torch.allclose(tensor, others[name], rtol=1e-3, atol=1e-5), name
        moved += name in before and before[name].shape == tensor.shape and not torch.equal(before[name], tensor)
    assert moved > 2


def test_a_compiled_fit_that_is_killed_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    def fit(checkpoints: Path | None) -> tuple[object, object]:
        torch.compiler.reset()
        return made(
            tiny_model,
            method=METHODS["full"],
            dropout=0.2,
            training=Training(batch_size=8),
            checkpoints=checkpoints,
            checkpoint_seconds=0.0,
            compile="on",
        )

    whole = bytes_of(drained(*fit(None))[0])
    for step in (1, 4):
        learner, rows = fit(tmp_path / str(step))
        running = learner.fit(rows)
        next(event for event in running if isinstance(event, Checkpointed) and event.step == step)
        shutil.copytree(tmp_path / str(step), tmp_path / f"killed-{step}")
        running.close()
        assert bytes_of(drained(*fit(tmp_path / f"killed-{step}"))[0]) == whole


def test_blocks_are_as_before_afterwards_and_only_steps_are_compiled(tiny_model: Path) -> None:
    learner, _ = made(tiny_model)
    backbone = learner.backbone
    blocks = [backbone.model.get_submodule(name) for name in backbone.blocks]
    with compiled(backbone.model, backbone.blocks, True):
        assert all("forward" in vars(block) for block in blocks)
        inputs = {"input_ids": torch.randint(5, 20, (4, 12))}
        backbone.model.eval()
        torch._dynamo.utils.counters.clear()
        inside = backbone.model(**inputs)
        assert torch._dynamo.utils.counters["stats"].get("unique_graphs", 0) == 0
    assert not any("forward" in vars(block) for block in blocks)
    assert torch.equal(inside, backbone.model(**inputs))


def test_what_cannot_be_compiled_is_refused_with_the_reason() -> None:
    class Odd(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.ops.whet_none.such(values)  # type: ignore[no-any-return]

    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no chain of blocks"), compiled(model, (), True):
        pass
    with compiled(model, (), False):  # not wanted: nothing to refuse
        pass
