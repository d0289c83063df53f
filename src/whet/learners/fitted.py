"""A fine-tuned model with all it needs to answer, and the features it answers from."""

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from whet.backbones.backbone import Backbone, Cut, HeadedModel
from whet.backbones.cut import FeatureCut
from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows
from whet.methods.method import Solve
from whet.modalities.modality import Processor
from whet.tasks.collapse import one_answer
from whet.tasks.predictions import Predictions
from whet.tasks.task import Examples, State, Task
from whet.training.cache import ActivationCache, content_keys
from whet.training.events import Event
from whet.training.machinery import Machinery
from whet.training.precision import Working
from whet.training.replay import activations
from whet.training.solve import Head

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class NeuralFitted:
    """A fine-tuned model with all it needs to answer.

    Args:
        starts_equal: Whether its method left the pre-trained features as they were, before any step.
        features_moved: Whether steps, or the model itself, changed features since then.
        solved: How its head was last solved, and on how many rows.
        prior: The head that an earlier run left for these features; heads are solved towards it.
        collapsed: The one answer that it gives whatever it reads, if so.
    """

    working: Working
    backbone: Backbone
    task: Task
    state: State
    columns: Columns
    processor: Processor
    machinery: Machinery
    cache: Path | None
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    trainable: int = 0
    starts_equal: bool = True
    features_moved: bool = False
    solved: Solve | None = None
    solved_rows: int = 0
    prior: Head | None = None
    interrupted: bool = False
    collapsed: str = ""

    @property
    def model(self) -> HeadedModel:
        """The float32 model, in evaluation mode."""
        return self.working.masters.eval()

    @property
    def untouched(self) -> bool:
        """Whether its features are those of the pre-trained model."""
        return self.starts_equal and not self.features_moved

    def predict(self, rows: Rows) -> Predictions:
        """Answers for rows, without targets."""
        examples = self.task.encode(rows, self.columns, self.processor, self.state, targeted=False)
        found: Predictions = drain(self.answer(examples))
        return found

    def answer(self, examples: Examples) -> Generator[Event, None, Predictions]:
        """Answers for encoded rows; features that never moved come from the cache."""
        outputs = yield from self.outputs(examples)
        return self.task.decode(outputs, examples.row_ids, self.state)

    def look(self, outputs: Array, examples: Examples) -> None:
        """Note whether outputs (N, K) for rows that nothing was fitted to, or for some that were, are one answer."""
        assert examples.targets is not None
        found = self.task.decode(outputs, examples.row_ids, self.state).with_targets(examples.targets)
        self.collapsed = one_answer(found)

    def outputs(self, examples: Examples) -> Generator[Event, None, Array]:
        """(N, K) outputs, pieces of a row averaged."""
        live = self.working.live
        cache = None if self.features_moved else feature_cache(self)
        most = self.machinery.most_tokens
        cut = FeatureCut()
        found = yield from activations(live, cut, examples, self.processor, cache, stage="predict", most_tokens=most)
        features = row_features(found["features"], examples)
        with torch.inference_mode():
            head: Tensor = live.head(live.scaler(torch.from_numpy(features).to(live.head.weight.device)))
        return head.float().cpu().numpy()


def row_features(found: Ragged, examples: Examples) -> Array:
    """(N, D) float32: the features of a row's pieces, averaged."""
    return examples.row_means(np.ascontiguousarray(found.compact().values).reshape(len(examples), -1))


def feature_cache(fitted: NeuralFitted) -> ActivationCache | None:
    """The cache of pooled features under the weights as they are now."""
    return cut_cache(fitted, FeatureCut(), fitted.working.precision)


def cached_share(fitted: NeuralFitted, examples: Examples) -> float:
    """The share of some examples whose features an earlier run left; 0 where a run may look for them elsewhere."""
    machinery = fitted.machinery
    if fitted.cache is None or machinery.precision != machinery.training_precision:
        return 0.0
    cache = feature_cache(fitted)
    assert cache is not None
    return 1 - len(cache.missing(content_keys(examples))) / max(1, len(examples))


def cut_cache(fitted: NeuralFitted, cut: Cut, precision: str) -> ActivationCache | None:
    """The cache of one cut, keyed by everything that could change a value."""
    if fitted.cache is None:
        return None
    import transformers

    key = ActivationCache.key(
        {
            "weights": weights_hash(fitted.working.masters, cut),
            "cut": cut.name,
            "processor": fitted.processor.fingerprint(),
            "precision": precision,
            "threads": fitted.machinery.threads,
            "tokens": fitted.machinery.most_tokens,
            "arithmetic": fitted.backbone.arithmetic,
            "device": fitted.machinery.device,
            "versions": [torch.__version__, transformers.__version__, *versions(fitted.columns.modality.packages)],
        }
    )
    return ActivationCache(fitted.cache / key)


def versions(packages: Sequence[str]) -> list[str]:
    """Of what is installed of these."""
    found = []
    for package in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def weights_hash(model: HeadedModel, cut: Cut) -> str:
    """A hash of every tensor below a cut."""
    digest = xxhash.xxh3_128()
    for prefix in cut.below:
        for name, tensor in model.get_submodule(prefix).state_dict().items():
            digest.update(f"{prefix}.{name}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def drain(events: Generator[Event, None, Any]) -> Any:
    """The result of a generator of events nobody listens to."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value
