"""Steps and answers may be computed in different precisions: each where it was asked for, and no cache mixes them."""

from itertools import combinations
from pathlib import Path

import pytest
import torch

from learners.make import QUICK, drained, made
from whet.backbones.precisions import Precision
from whet.learners.fitted import feature_cache
from whet.methods.full import Full
from whet.methods.method import Method
from whet.methods.probe import Probe

STEPS = Full(learning_rate=3e-3, epochs=2, solve=QUICK)


@pytest.mark.parametrize("method", [Probe(), STEPS], ids=["probe", "full"])
@pytest.mark.parametrize(("precision", "training"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_answers_are_in_the_precision_of_forward_passes(
    method: Method, precision: Precision, training: Precision, tiny_model: Path
) -> None:
    learner, rows = made(tiny_model, method=method, precision=precision, training_precision=training)
    fitted, _ = drained(learner, rows)
    assert fitted.working.precision == precision
    assert {p.dtype for p in fitted.working.live.body.parameters()} == {getattr(torch, precision)}
    assert fitted.working.shared == (precision == "float32")


def test_features_of_one_precision_are_never_those_of_another(tiny_model: Path, tmp_path: Path) -> None:
    learner, _ = made(tiny_model, method=Probe(), cache=tmp_path, precision="bfloat16", training_precision="float32")
    kinds: tuple[Precision, ...] = ("float32", "float32-medium", "bfloat16")
    caches = [feature_cache(learner.unfitted(learner.backbone, kind)) for kind in kinds]
    folders = [cache.folder for cache in caches if cache is not None]
    assert len(folders) == 3
    assert all(one != other for one, other in combinations(folders, 2))
