"""What would a method train of a model, and what would replay gain?

Methods are asked through their contract, each on a fresh copy of the model, because some insert modules or rewrite
weights.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

from whet import catalog
from whet.backbones.backbone import Backbone
from whet.choices import find_method
from whet.errors import WhetError
from whet.inspection.parts import count
from whet.inspection.rows import ReadyRows
from whet.learners.descent import LEAST_GAIN, gain_of_stages, lowest_cut, moving_blocks, require_possible
from whet.learners.neural import stages_of
from whet.methods.method import Descend, Method, Solve, Stage, within
from whet.report.inspected import MethodFacts, Problem
from whet.training.settings import Training


def method_facts(name: str, pristine: Backbone, training: Training, rows: ReadyRows | None) -> MethodFacts:
    """What a method would train, or why it cannot work here."""
    summary = catalog.members("method")[name].summary
    backbone = replace(pristine, model=copy.deepcopy(pristine.model))
    try:
        method: Method = find_method({"method": name}, pairs=False)
        prepared, stages = stages_of(method, backbone, training)
        for stage in stages if rows is not None else ():
            require_possible(stage, rows.checked.task, training)  # type: ignore[union-attr]
    except WhetError as error:
        return MethodFacts(name=name, summary=summary, problem=Problem(error.what, error.where, error.fix))
    epochs = epochs_of(method, training, None if rows is None else len(rows.examples))
    every = dict(prepared.model.named_parameters())
    moved = {one for stage in stages for one in trained_names(stage, prepared)}
    trained = count(every, sorted(moved))
    return MethodFacts(
        name=name,
        summary=summary,
        parameters=trained,
        share=trained / sum(parameter.numel() for parameter in every.values()),
        moving=sum(any(within(one, (block,)) for one in moved) for block in prepared.blocks),
        blocks=len(prepared.blocks),
        epochs=epochs,
        replay_gain=replay_of(stages, prepared, epochs),
    )


def epochs_of(method: Method, training: Training, examples: int | None) -> float:
    """The passes of a method over so many examples: more than its own where they are few.

    A plan holds some rows out to stop by, and may then have a few more.
    """
    if not method.epochs:
        return 0.0
    return float(training.epochs or method.epochs) if examples is None else training.passes(method, examples)


def trained_names(stage: Stage, backbone: Backbone) -> set[str]:
    """Every parameter that a stage moves; a solved head is that head alone."""
    if isinstance(stage.fit, Solve):
        return {name for name in backbone.created if name.startswith("head.")}
    names = {name for group in stage.groups for name in group.names}
    return names | set(backbone.created) if stage.head else names


def replay_of(stages: Sequence[Stage], backbone: Backbone, epochs: float) -> float | None:
    """The bound of what replay gains over all stages of steps; None where it gains nothing."""
    blocks = len(backbone.blocks)
    steps = [(stage, stage.fit) for stage in stages if isinstance(stage.fit, Descend)]
    if not blocks or not steps:
        return None
    cuts = [lowest_cut(backbone, tuple(trained_names(stage, backbone))) for stage, _ in steps]
    parts = [
        (moving_blocks(backbone, cut) / blocks, fit.share * epochs) for cut, (_, fit) in zip(cuts, steps, strict=True)
    ]
    gain = gain_of_stages(parts)
    return gain if gain >= LEAST_GAIN else None
