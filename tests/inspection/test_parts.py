"""What is in a model: every parameter once, what crosses each cut, what lies on disk."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

import whet


def test_parts_hold_every_parameter_once(tiny_model: Path) -> None:
    for head in ("pooled", "native"):
        found = whet.inspect(tiny_model, head=head)
        assert sum(part.parameters for part in found.parts) == found.parameters
        assert [part.kind for part in found.parts].count("block") == 3
        assert len({part.name for part in found.parts}) == len(found.parts)
        assert found.parts[-1].name == "head"


def test_cuts_grow_from_input_to_output_and_say_what_crosses(tiny_model: Path) -> None:
    found = whet.inspect(tiny_model)
    below = [cut.parameters_below for cut in found.cuts]
    assert below == sorted(set(below))
    assert [(cut.width, cut.per_token) for cut in found.cuts] == [(32, True)] * 3 + [(32, False)]


def test_types_on_disk_are_counted_whatever_the_file(tiny_model: Path, tmp_path: Path) -> None:
    found = whet.inspect(tiny_model)
    head = found.parts[-1].parameters
    assert found.weights.stored == {"float32": found.parameters - head}
    pickled = shutil.copytree(tiny_model, tmp_path / "pickled")
    halves = {name: tensor.half() for name, tensor in load_file(pickled / "model.safetensors").items()}
    torch.save(halves, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    assert whet.inspect(pickled).weights.stored == {"float16": found.parameters - head}
