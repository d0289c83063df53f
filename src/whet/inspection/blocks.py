"""In which block do the rows' answers show, and which cut follows from that?"""

from collections.abc import Generator, Sequence
from statistics import NormalDist

from whet import catalog
from whet.backbones.backbone import Backbone
from whet.data.fingerprints import row_units
from whet.evaluation.intervals import Resamples, ordered
from whet.evaluation.judge import score
from whet.evaluation.metric import Metric
from whet.evaluation.records import Score
from whet.inspection.rows import ReadyRows
from whet.learners.block_probe import Readings, read_blocks
from whet.methods.method import Solve, TopDown
from whet.report.inspected import BlockProbe, BlockScore, Suggestion
from whet.report.words import metric_name, metric_value
from whet.training.events import Event


def probe_blocks(rows: ReadyRows, backbone: Backbone) -> Generator[Event, None, BlockProbe]:
    """A score behind every block, and the cut that follows from them."""
    checked, metric = rows.checked, rows.metric
    train, columns = checked.split.train, checked.columns
    units, grouped = row_units(train, columns), columns.group is not None
    found: Readings = yield from read_blocks(
        rows.pretrained, checked.task, rows.state, rows.examples, units, Solve(), grouped=grouped
    )
    answers = [ordered(head.answers) for head in (found.without, *found.heads)]
    resamples = Resamples(answers[0], rows.pretrained.seed, purpose="inspect")
    without, *scores = [score(metric, one, resamples) for one in answers]
    names = block_names(len(backbone.blocks))
    blocks = tuple(
        BlockScore(names[depth], depth, one, standard_error(one))
        for depth, one in zip(found.depths, scores, strict=True)
    )
    suggestion, notes = suggested(blocks, without, metric), list(found.notes)
    if suggestion is None and len(blocks) > 1:
        notes.append("No block tells surely more than a head that sees no features, so no cut is suggested.")
    if checked.task.kind == "multi-label":
        notes.append("Thresholds were chosen on these same answers, so every score is a little too high.")
    return BlockProbe(
        metric=metric.name,
        rows=found.rows,
        folds=found.folds,
        without=without,
        blocks=blocks,
        suggestion=suggestion,
        notes=tuple(notes),
    )


def block_names(blocks: int) -> list[str]:
    """What stands behind each depth, for people."""
    if not blocks:
        return ["features"]
    return ["before block 1", *(f"block {depth} of {blocks}" for depth in range(1, blocks + 1))]


def standard_error(found: Score) -> float:
    """Half the 95% interval in the normal's standard deviations."""
    return (found.high - found.low) / 2 / NormalDist().inv_cdf(0.975)


def suggested(blocks: Sequence[BlockScore], without: Score, metric: Metric) -> Suggestion | None:
    """The one-standard-error rule: the lowest depth that is no further than that from the best.

    Source: Breiman et al. 1984, "Classification and Regression Trees", section 3.4, where it prunes trees.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    able = [block for block in blocks if block.score.value == block.score.value]
    if len(able) < 2:
        return None
    best = max(able, key=lambda block: sign * block.score.value)
    surely = best.score.low if sign > 0 else -best.score.high
    if surely <= sign * without.value:
        return None
    least = sign * best.score.value - best.standard_error
    chosen = next(block for block in able if sign * block.score.value >= least)
    top = blocks[-1].depth
    train = top - chosen.depth
    return Suggestion(
        depth=chosen.depth,
        train=train,
        best=best.depth,
        sentence=reason_of(chosen, best, top),
        options=words_to_try(train),
    )


def words_to_try(train: int) -> tuple[str, ...]:
    """What to type for the first method of the catalog that can train so many blocks from the top and none below."""
    for name in catalog.members("method"):
        kind = catalog.find("method", name)
        settings = kind.for_top(train) if isinstance(kind, TopDown) else None
        if settings is not None:
            chosen = [("--set", f"method.{key}={value}") for key, value in settings.items()]
            return ("--method", name, *(word for pair in chosen for word in pair))
    return ()


def reason_of(chosen: BlockScore, best: BlockScore, top: int) -> str:
    """Why the cut lies there, in a sentence or two."""
    metric, error = chosen.score.metric, metric_value(chosen.score.metric, best.standard_error)
    value = metric_value(metric, chosen.score.value)
    if chosen.depth == 0:
        frozen = "Only what lies before block 1 can stay frozen"
    else:
        blocks = "Block 1" if chosen.depth == 1 else f"Blocks 1 to {chosen.depth}"
        frozen = f"{f'All {top} blocks' if chosen.depth == top else f'{blocks} of {top}'} can stay frozen"
    if best.depth == 0:
        return f"{frozen}: no block adds to the {metric_name(metric)} that is read there ({value})."
    if chosen.depth == best.depth:
        place = "the last one" if chosen.depth == top else chosen.name
        why = f"{metric_name(metric)} is best behind {place} ({value}), by more than one standard error ({error})"
        return f"{frozen}: {why} over everything below."
    where = chosen.name if chosen.depth == 0 else f"behind {chosen.name}"
    return (
        f"{frozen}: {metric_name(metric)} {where} ({value}) lies within one standard error ({error}) of the best, "
        f"{metric_value(metric, best.score.value)} behind {best.name}."
    )
