"""The frozen probe as a baseline: what the untuned model's features give with a solved head.

A deeper method that is not better than this did not need its steps.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from whet.data.rows import Columns
from whet.learners.fitted import NeuralFitted, drain
from whet.learners.learner import Fitted, Learner, Material
from whet.learners.neural import Pretrained, TrainingRows
from whet.methods.probe import Probe


@dataclass(frozen=True)
class FrozenProbe(Learner):
    """A convex head on the untuned model; not for pairs, whose parts a frozen encoder never learnt to compare."""

    method: ClassVar[Probe] = Probe()

    def serves(self, columns: Columns, *, continued: bool) -> bool:
        return len(columns.inputs) == 1

    def is_model(self, model: Fitted, material: Material) -> bool:
        if not isinstance(model, NeuralFitted) or not model.untouched:
            return False
        return model.solved == self.method.solve and model.solved_rows == len(material.train)

    def fit(self, material: Material) -> NeuralFitted:
        """Features come from the cache where they are there."""
        pretrained: Pretrained = material.pretrained
        learner = pretrained.learner(material.task, material.state, material.columns, self.method)
        examples = material.task.encode(
            material.train, material.columns, pretrained.processor, material.state, targeted=False
        )
        examples = replace(examples, targets=material.targets)
        fitted: NeuralFitted = drain(learner.fit(TrainingRows(examples, None, material.units)))
        return fitted
