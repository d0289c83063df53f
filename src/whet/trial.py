"""A dry run in a process of its own, which may die: on a processor the kernel kills where memory runs out.

Starting Python and its imports takes seconds, so a step is tried in this process where a generous count says that it
takes less than half of the memory there is. Else a child tries it, and its death counts as not fitting, like more
memory than a run may take.

``python -m whet.trial FOLDER`` is the child: it reads what to try from the folder and writes what it found there.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whet.data.ragged import Ragged
from whet.data.rows import Columns
from whet.dry_run import MethodCost, StageCost, measure_method, out_of_memory
from whet.errors import ConfigError, MachineError
from whet.learners.neural import Neural, Pretrained
from whet.methods.method import Method
from whet.plan import build, member_dict, member_of, plain
from whet.tasks.own_loss import plain_task
from whet.tasks.task import Examples, State, Task
from whet.training.machinery import Machinery
from whet.training.memory import SHARE, end_above, held_bytes, memory_bytes
from whet.training.replay import pick
from whet.training.settings import Training

NEAR = 0.5
"""Share of the limit above which a step is not tried in this process."""
TOO_MUCH = 86
"""The child's status when it held more than it may."""
REQUEST, FOUND, ARRAYS = "request.json", "found.json", "arrays.npz"


@dataclass(frozen=True, eq=False)
class Trial:
    """What is tried: a method on some rows.

    Args:
        examples: Of usual lengths, to time; longest: the longest there are, longest first; answered: the longest of
            those that are answered without gradients.
    """

    pretrained: Pretrained
    task: Task
    state: State
    columns: Columns
    examples: Examples
    longest: Examples
    answered: Examples

    def learner(self, method: Method, training: Training) -> Neural:
        """The method's learner, fresh."""
        return self.pretrained.learner(self.task, self.state, self.columns, method, training)

    def cost(self, method: Method, training: Training) -> MethodCost | None:
        """What the method takes, or None where a step does not fit.

        Raises:
            ConfigError: the method cannot work with this model, task or plan.
        """
        limit = limit_bytes(self.pretrained.machinery)
        usual = self.pretrained.machinery.device == "cpu" and self.pretrained.family.portable
        if usual and sys.executable and held_bytes() + self._generous_bytes(training) > NEAR * limit:
            return self._in_child(method, training, limit)
        try:
            return self.measured(method, training)
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                return None
            raise

    def measured(self, method: Method, training: Training) -> MethodCost:
        """What the method takes, found out in this process."""
        return measure_method(lambda: self.learner(method, training), self.examples, self.longest, self.answered)

    def _generous_bytes(self, training: Training) -> int:
        """More than a step on the longest batch should take: 12 numbers a parameter, and all that blocks keep."""
        model = self.pretrained.load(self.task.outputs(self.state)).model
        parameters = sum(parameter.numel() for parameter in model.parameters())
        one = pick(self.longest if len(self.longest) else self.answered, np.zeros(1, np.int64))
        rows = min(training.micro_batch_size or training.batch_size, max(1, len(self.longest)))
        tokens = max(rows * int(one.lengths[0]), self.pretrained.machinery.most_tokens)
        return 4 * (12 * parameters + kept_numbers(model, self.pretrained.processor.collate(one.inputs), one, tokens))

    def _in_child(self, method: Method, training: Training, limit: int) -> MethodCost | None:
        with tempfile.TemporaryDirectory(prefix="whet-trial-") as name:
            folder = Path(name)
            self._write(folder, method, training, limit)
            places = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            child = subprocess.run(
                [sys.executable, "-P", "-m", "whet.trial", name],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if child.returncode == TOO_MUCH or child.returncode < 0:
                return None
            if not (folder / FOUND).exists():
                raise MachineError(
                    "A step could not be tried: " + (child.stderr.strip().splitlines() or ["no reason was given"])[-1],
                    where="machinery",
                    fix="report this, with the whole command; --set machinery.memory_limit_bytes=... may pass it by",
                )
            found = json.loads((folder / FOUND).read_text(encoding="utf-8"))
        if "error" in found:
            raise ConfigError(*found["error"])
        return None if found["cost"] is None else method_cost(found["cost"])

    def _write(self, folder: Path, method: Method, training: Training, limit: int) -> None:
        """Everything that the child needs, as plain values and arrays."""
        pretrained, processor = self.pretrained, self.pretrained.processor
        request = {
            "family": member_dict("backbone", pretrained.family),
            "folder": str(pretrained.folder),
            "machinery": plain(pretrained.machinery),
            "seed": pretrained.seed,
            "max_length": processor.record().get("max_length"),
            "task": member_dict("task", plain_task(self.task)),
            "state": self.state,
            "columns": plain(self.columns),
            "method": member_dict("method", method),
            "training": plain(training),
            "most_bytes": int(SHARE * limit),
        }
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        parts = {"examples": self.examples, "longest": self.longest, "answered": self.answered}
        np.savez(folder / ARRAYS, **{key: array for one in parts.items() for key, array in arrays_of(*one).items()})

    @staticmethod
    def read(folder: Path) -> tuple["Trial", Method, Training, int]:
        """What ``_write`` wrote."""
        request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        columns: Columns = build(Columns, request["columns"], "columns")
        model, pairs = Path(request["folder"]), len(columns.inputs) > 1
        processor = columns.modality.processor(model, max_length=request["max_length"], pairs=pairs)
        machinery: Machinery = build(Machinery, request["machinery"], "machinery")
        family = member_of("backbone", request["family"])
        pretrained = Pretrained(family, model, processor, machinery, request["seed"])
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            parts = {name: examples_of(name, arrays) for name in ("examples", "longest", "answered")}
        task = member_of("task", request["task"])
        trial = Trial(pretrained, task, request["state"], columns, **parts)
        training: Training = build(Training, request["training"], "training")
        return trial, member_of("method", request["method"]), training, request["most_bytes"]


def limit_bytes(machinery: Machinery) -> int:
    """What a run may take of memory, of which it is planned to take ``SHARE``."""
    return machinery.memory_limit_bytes or memory_bytes()


def kept_numbers(model: Any, inputs: Mapping[str, Any], one: Examples, tokens: int) -> int:
    """Numbers that a backward over so many tokens needs, generously: what goes into and out of every layer twice, and
    four tables of attention a block.

    Args:
        inputs: A single example as a batch, and ``one`` itself.
    """
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    heads = max((int(getattr(config, "num_attention_heads", 0) or 0) for config in configs), default=0)
    blocks = max((int(getattr(config, "num_hidden_layers", 0) or 0) for config in configs), default=0)
    length = max(1, int(one.lengths[0]))
    return tokens * (2 * passing_numbers(model, inputs) // length + 4 * heads * length * blocks)


def passing_numbers(model: Any, inputs: Mapping[str, Any]) -> int:
    """Numbers that go into and out of every module with parameters of its own, for one batch."""
    import torch

    from whet.backbones.cut import first_tensor

    counts: list[int] = []

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        results = out if isinstance(out, tuple) else (out,)
        counts.extend(one.numel() for one in (first_tensor(args, kwargs), *results) if isinstance(one, torch.Tensor))

    own = [module for module in model.modules() if module._parameters]
    hooks = [module.register_forward_hook(count, with_kwargs=True) for module in own]
    try:
        with torch.inference_mode():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def arrays_of(name: str, examples: Examples) -> dict[str, Any]:
    """Examples as named arrays."""
    rows = {"row": examples.row, "part": examples.part, "ids": examples.row_ids, "lengths": examples.lengths}
    found = {f"{name}/{key}": array for key, array in rows.items()}
    if examples.targets is not None:
        found[f"{name}/targets"] = examples.targets
    for column, ragged in examples.inputs.items():
        packed = ragged.compact()
        found |= {f"{name}/values/{column}": packed.values, f"{name}/shapes/{column}": packed.shapes}
    return found


def examples_of(name: str, arrays: Mapping[str, Any]) -> Examples:
    """What ``arrays_of`` named."""
    columns = [key.removeprefix(f"{name}/values/") for key in arrays if key.startswith(f"{name}/values/")]
    pairs = {column: (arrays[f"{name}/values/{column}"], arrays[f"{name}/shapes/{column}"]) for column in columns}
    targets = arrays.get(f"{name}/targets")
    inputs = {column: Ragged.of(values, shapes) for column, (values, shapes) in pairs.items()}
    row, part, ids, lengths = (arrays[f"{name}/{key}"] for key in ("row", "part", "ids", "lengths"))
    return Examples(inputs, row, part, targets, ids, lengths)


def method_cost(found: Mapping[str, Any]) -> MethodCost:
    """A cost out of plain values."""
    stages = [{**one, "tables": tuple(map(tuple, one["tables"]))} for one in found["descents"]]
    return MethodCost(**{**found, "descents": tuple(StageCost(**one) for one in stages)})


def main(folder: Path) -> None:
    """Try what the folder asks for; the first to be killed where memory runs out, and ended where it may not go on."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000")
    trial, method, training, most = Trial.read(folder)
    end_above(most, TOO_MUCH)
    trial.pretrained.load(trial.task.outputs(trial.state))
    found: dict[str, Any]
    try:
        found = {"cost": asdict(trial.measured(method, training))}
    except ConfigError as error:
        found = {"error": list(error.args)}
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        found = {"cost": None}
    (folder / FOUND).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
