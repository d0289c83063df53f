"""The earlier model as a baseline: what the run that this one goes on from would have answered.

Nothing is fitted. It knows the labels that it was made for; of others it can say nothing, so their rows it misses.
"""

from dataclasses import dataclass
from typing import ClassVar

from whet.data.rows import Columns, Rows
from whet.learners.learner import Fitted, Learner, Material
from whet.tasks.predictions import Predictions


@dataclass(frozen=True)
class Earlier(Learner):
    """The packaged model of the earlier run, as it is."""

    learns: ClassVar[bool] = False
    earlier: ClassVar[bool] = True

    def serves(self, columns: Columns, *, continued: bool) -> bool:
        return continued

    def fit(self, material: Material) -> "Answering":
        """Takes the model as it is."""
        assert material.earlier is not None, "only a run that goes on from another one has an earlier model"
        return Answering(material.earlier, tuple(str(label) for label in material.state.get("labels", ())))


@dataclass(frozen=True, eq=False)
class Answering:
    """The earlier model, answering among the labels of this run."""

    model: Fitted
    labels: tuple[str, ...]

    def predict(self, rows: Rows) -> Predictions:
        return self.model.predict(rows).with_labels(self.labels)
