"""Does the package answer as the model that was judged? Precision may differ, and a reader must know how far."""

import numpy as np

from whet.backbones.precisions import Precision
from whet.data.rows import spread
from whet.data.split import TestSet
from whet.deploy.predictor import Predictor
from whet.report.words import number, plural
from whet.tasks.predictions import Predictions

TRIED_ROWS = 100
"""Test rows, evenly spread, that are answered by both."""


def shipped_words(model: Predictor, judged_in: Precision, test: TestSet, judged: Predictions) -> str:
    """How the packaged model's answers differ from those that are judged; nothing where both are float32.

    Args:
        model: The one that is packaged, in float32.
        judged: Answers for the whole test set, without targets.
    """
    if judged_in == "float32" or not len(judged):
        return ""
    index = spread(len(judged), TRIED_ROWS)
    ours, theirs = judged.take(index), model.answer(test.rows.select(index))
    lead = f"Judged in {judged_in}; the packaged model answers in float32"
    if judged.kind == "regression":
        most = float(np.abs(ours.decided - theirs.decided).max())
        return f"{lead}, at most {number(most)} apart on {plural(len(index), 'test row')} tried."
    alike = int((ours.decided == theirs.decided).reshape(len(index), -1).all(axis=1).sum())
    return f"{lead} and decides {alike:,} of {plural(len(index), 'test row')} tried alike."
