"""How much of the answer can be read behind each block? A solved head on the features of each, from one forward pass.

Source: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.
Ours solves every head as the probe does, its penalty chosen by cross-validation, and scores rows that it did not see.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from whet.backbones.backbone import Backbone
from whet.backbones.cut import ChainCut
from whet.backbones.depths import depth_features, whole_chain, why_not
from whet.data.ragged import by_length
from whet.learners.neural import MOST_SOLVED, Pretrained, solved_on
from whet.methods.method import Solve
from whet.modalities.modality import Processor
from whet.tasks.predictions import Predictions
from whet.tasks.task import Examples, State, Task
from whet.training.batches import make_batch
from whet.training.draws import numpy_generator
from whet.training.events import Event, Progressed, Said
from whet.training.precision import Working
from whet.training.replay import to_device
from whet.training.solve import Solved

Array = np.ndarray[Any, Any]
TRIED = 4
"""Examples on which it is tried whether blocks can be read."""
MOST_BYTES = 2**30
"""What the float32 features of all blocks may take together; beyond it a sample of the rows is read."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One head: held-out answers with targets, and the head itself."""

    answers: Predictions
    solved: Solved


@dataclass(frozen=True, eq=False)
class Readings:
    """What probes read.

    Args:
        depths: Blocks below each of ``heads``; ``without`` is a head that sees no features.
        rows: How many were read.
        folds: Of the cross-validation.
        notes: What a reader must know.
    """

    depths: tuple[int, ...]
    heads: tuple[Reading, ...]
    without: Reading
    rows: int
    folds: int
    notes: tuple[str, ...] = ()


def read_blocks(
    pretrained: Pretrained,
    task: Task,
    state: State,
    examples: Examples,
    units: Array,
    how: Solve,
    *,
    grouped: bool = False,
    most_bytes: int = MOST_BYTES,
) -> Generator[Event, None, Readings]:
    """Solve a head on the features of every block.

    Args:
        examples: Encoded rows with targets.
        units: (N,) rows of one unit stay in one fold.
        how: Penalties and folds.
        grouped: Whether units are groups, whose rows are not independent, and not only equal inputs.
    """
    torch.set_num_threads(pretrained.machinery.threads)
    backbone, seed = pretrained.load(task.outputs(state)), pretrained.seed
    device = torch.device(pretrained.machinery.device)
    working = Working.of(backbone.model, pretrained.machinery.precision, device)
    some = make_batch(examples, pretrained.processor, np.arange(min(TRIED, len(examples)))).inputs
    chain, reason = readable_chain(working, backbone, to_device(some, device))
    notes = [f"Only the model's own features are read: {reason}."] if reason else []
    depths = (len(backbone.blocks),) if chain is None else tuple(range(len(chain.chain) + 1))
    kept = affordable(examples, len(depths) * backbone.model.head.in_features * 4, most_bytes, seed)
    if kept is not None:
        limit = f"{most_bytes / 2**20:,.0f} MiB of features and {MOST_SOLVED:,} rows are the limit"
        notes.append(f"Read on {len(kept):,} of {examples.rows:,} rows, drawn from the seed: {limit}.")
        yield Said(stage="features", message=notes[-1])
        examples, units = examples.select(kept), units[kept]
    targets = examples.targets
    assert targets is not None
    found = yield from features_of(working, chain, examples, pretrained.processor, pretrained.machinery.most_tokens)
    drawn, heads = units if grouped else None, []
    for place in range(len(depths)):
        yield Progressed(stage="probes", done=place, total=len(depths), unit="heads")
        features = torch.from_numpy(examples.row_means(found[place]))
        solved = solved_on(features, targets, units, how, task, state, seed)
        heads.append(reading(task, state, examples, solved, drawn))
    blind = solved_on(torch.zeros(examples.rows, 1), targets, units, how, task, state, seed)
    yield Progressed(stage="probes", done=len(depths), total=len(depths), unit="heads")
    without = reading(task, state, examples, blind, drawn)
    return Readings(depths, tuple(heads), without, examples.rows, how.folds, tuple(notes))


def readable_chain(
    working: Working, backbone: Backbone, inputs: Mapping[str, torch.Tensor]
) -> tuple[ChainCut | None, str]:
    """The chain of blocks behind which features can be read, as found by trying; else None and the reason."""
    chain = whole_chain(backbone)
    if chain is None:
        return None, "it has no chain of blocks"
    reason = why_not(working.live.eval(), chain, inputs)
    return (None, reason) if reason else (chain, "")


def affordable(examples: Examples, piece_bytes: int, most_bytes: int, seed: int) -> Array | None:
    """Ascending positions of the rows to read where not all can be; None for all of them."""
    share = min(1.0, most_bytes / max(1, piece_bytes * len(examples)), MOST_SOLVED / max(1, examples.rows))
    if share >= 1.0:
        return None
    count = max(1, int(share * examples.rows))
    return np.sort(numpy_generator("sample", seed).permutation(examples.rows)[:count])


def features_of(
    working: Working, chain: ChainCut | None, examples: Examples, processor: Processor, most_tokens: int
) -> Generator[Event, None, Array]:
    """(L, E, D) float32 features behind each depth for every piece; every block runs once a batch."""
    model, lengths = working.live.eval(), examples.lengths
    device = next(model.parameters()).device
    found: Array | None = None
    done, total = 0, int(lengths.sum())
    for index in by_length(lengths, most_tokens):
        inputs = to_device(make_batch(replace(examples, targets=None), processor, index).inputs, device)
        with torch.inference_mode():
            layers = [model.body(**inputs).float()] if chain is None else depth_features(model, chain, inputs)
        if found is None:
            found = np.empty((len(layers), len(examples), layers[0].shape[1]), np.float32)
        for place, layer in enumerate(layers):
            found[place, index] = layer.cpu().numpy()
        done += int(lengths[index].sum())
        yield Progressed(stage="features", done=done, total=total, unit=processor.unit)
    assert found is not None, "no rows to read"
    return found


def reading(task: Task, state: State, examples: Examples, solved: Solved, units: Array | None) -> Reading:
    """Held-out outputs as answers, with what the task tunes on them."""
    targets, outputs = examples.targets, solved.held_out.numpy()
    assert targets is not None
    answers = task.decode(outputs, examples.row_ids, task.tune(outputs, targets, state))
    return Reading(answers.with_targets(targets, units), solved)
