"""Does a member keep its contract? Public checks and tiny models for people who extend whet.

Each ``check_*`` runs one member on tiny things made on the spot and raises AssertionError with a sentence that tells
its author what is missing; scikit-learn's estimator checks are the model. A check needs seconds and no network.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from whet import catalog
from whet.backbones.backbone import Backbone, Family, HeadedModel, Meaning
from whet.backbones.text_encoder import TextEncoder
from whet.data.columns import describe_columns
from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows
from whet.evaluation.metric import Metric, value_of
from whet.learners.descent import undecayed
from whet.learners.learner import Learner, Material
from whet.learners.majority import Majority
from whet.learners.neural import Pretrained
from whet.methods.method import STATED, Method, OnLadder, Place, RateGroup, Size, Solve, Stage, TopDown, within
from whet.modalities.modality import Augmentable, Augmentation, Modality
from whet.modalities.text import Text
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Examples, State, Task
from whet.trackers.tracker import Tracker, opened
from whet.training.average import NoAverage, Over
from whet.training.batches import Source, strata_of
from whet.training.events import Checkpointed, Evaluated, Event, Fitting, Judged, Said, Started, Stepped, Stopped
from whet.training.loop import Budget, FitState, Objective, start_state, take_step
from whet.training.machinery import Machinery
from whet.training.objective import FeatureObjective, TaskObjective
from whet.training.optimizer import Optimizer
from whet.training.precision import Working
from whet.training.replay import set_training
from whet.training.schedules import FALLS
from whet.training.settings import Training

__all__ = [
    "check_average",
    "check_backbone",
    "check_learner",
    "check_method",
    "check_metric",
    "check_modality",
    "check_optimizer",
    "check_task",
    "check_tracker",
    "tiny_rows",
    "tiny_text_model",
]

TOPICS = (
    ("refund", "invoice", "payment", "charge", "price"),
    ("login", "password", "account", "locked", "email"),
    ("parcel", "late", "delivery", "courier", "tracking"),
)
FILLERS = ("the", "my", "is", "a", "please", "help", "with", "today", "again", "why", "and", "was", "not", "now")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
STEPS = 3
RATE = 1e-2

Array = np.ndarray[Any, Any]


def tiny_text_model(
    folder: Path,
    *,
    layers: int = 3,
    hidden: int = 32,
    pairs: bool = False,
    dropout: float = 0.1,
    positions: int = 64,
    seed: int = 0,
) -> Path:
    """Write a BERT that fits in a test into ``folder``: config, WordPiece tokenizer, random weights.

    Args:
        layers: Number of blocks.
        hidden: Width, a multiple of 4.
        pairs: Whether the model tells the two texts of a pair apart.
        dropout: On hidden states and attention weights.
        positions: Longest input in tokens.
        seed: Of the weights.

    Returns:
        ``folder``.
    """
    from transformers import BertConfig, BertModel

    from whet.backbones.text_layout import quiet_transformers

    vocabulary = tiny_vocabulary()
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=2 if pairs else 1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,  # at the usual 0.02 a model this small ignores its input
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(str(folder))
    write_tokenizer(folder, vocabulary, positions)
    return folder


def tiny_rows(kind: Kind, rows: int = 48, *, seed: int = 0, pairs: bool = False) -> tuple[Rows, Columns]:
    """Rows that can be learnt: short texts about three topics, with a class, labels or a number.

    Args:
        kind: What the column "target" holds: a topic's name, a list of names, or a number.
        pairs: Whether there is a second text column, "other".
    """
    draw = np.random.default_rng(seed)
    topic = draw.integers(0, len(TOPICS), rows)
    columns: dict[str, Any] = {"text": [sentence(TOPICS[number], draw) for number in topic]}
    if pairs:
        columns["other"] = [sentence(TOPICS[number], draw) for number in draw.permutation(topic)]
    names = np.array(["billing", "access", "shipping"])
    if kind == "classification":
        columns["target"] = names[topic].tolist()
    elif kind == "multi-label":
        columns["target"] = [
            sorted({str(names[number]), *(["urgent"] if "now" in text.split() else [])})
            for number, text in zip(topic, columns["text"], strict=True)
        ]
    else:
        columns["target"] = (10.0 * topic + draw.normal(0, 1, rows)).round(3).tolist()
    inputs = ("text", "other") if pairs else ("text",)
    return Rows(pa.table(columns), "rows"), Columns(inputs, ("target",))


def check_method(method: Method) -> None:
    """Run a method on a tiny encoder of four blocks.

    Checks that preparing changes no answer; that stages are well named and name parameters that exist; that after
    three steps everything named moved (but for ``Stage.still``) and nothing else did; that weights saved and loaded
    into a freshly prepared model give the same answers; that finishing and packaging keep them; that settings which it
    gives for the top blocks alone (``TopDown``) move those and no other; and that it answers for its place on the
    ladder (``OnLadder``) whatever the size.
    """
    check_place(method)
    with TemporaryDirectory() as place, torch.random.fork_rng(devices=[]):
        folder = tiny_text_model(Path(place) / "model", layers=4)
        family = TextEncoder(dropout=0.0)
        source, task, state = tiny_source(folder)
        inputs = source.batch(np.arange(8)).inputs
        backbone = tiny_backbone(family, folder, task.outputs(state))
        before = answers(backbone.model, inputs)
        backbone = method.prepare(backbone)
        require(
            torch.equal(answers(backbone.model, inputs), before) or not method.starts_equal,
            "prepare() changes the model's answers; it must start as the identity, or starts_equal be False",
        )
        stages = method.stages(backbone)
        check_stages(method, stages, backbone)
        check_top_down(method, family, folder, len(backbone.blocks))
        for stage in stages:
            check_movement(stage, backbone, source, task, state)
        check_reloading(method, family, folder, backbone, inputs)
        trained = answers(backbone.model, inputs)
        finished = method.finish(backbone)
        require(near(answers(finished.model, inputs), trained), "finish() changes the model's answers")
        meaning = Meaning(task.kind, tuple(state["labels"]))
        family.save(finished.model, Path(place) / "saved", source=folder, meaning=meaning)
        again = family.reload(Path(place) / "saved")
        require(near(answers(again, inputs), trained), "the packaged model answers otherwise than the live one")


def check_optimizer(optimizer: Optimizer) -> None:
    """Take steps with every weight of a tiny encoder.

    Checks that everything moves and stays finite; that what is remembered is named by parameter, and nothing is before
    the first step; that another state which is given it goes on as this one does, bit by bit; and that to ask for the
    masters that answer changes none that step.
    """
    require(optimizer.usual_rate > 0, "usual_rate must be above 0")
    require(optimizer.schedule in FALLS, f"schedule must be one of {', '.join(FALLS)}")
    with TemporaryDirectory() as place, torch.random.fork_rng(devices=[]):
        folder = tiny_text_model(Path(place) / "model", layers=2)
        state, _, step = tiny_steps(optimizer, folder)
        begin = {name: tensor.clone() for name, tensor in state.masters().items()}
        require(not state.optimizer.tensors(), "nothing can be remembered before the first step")
        for _ in range(STEPS):
            step()
        for name, tensor in state.masters().items():
            require(bool(torch.isfinite(tensor).all()), f"{name} is not finite after {STEPS} steps")
            require(not torch.equal(tensor, begin[name]), f"{name} did not move in {STEPS} steps")
        strays = {key for key in state.optimizer.tensors() if key.partition("/")[2] not in begin}
        require(not strays, f"tensors() must name parameters, as 'kind/parameter', not {sorted(strays)[:2]}")
        kept = {name: tensor.clone() for name, tensor in state.moving().items()}
        with state.optimizer.answering():
            pass
        require(equal(state.moving(), kept), "after answering() the masters must be what they were")
        again, others, step_again = tiny_steps(optimizer, folder)
        again.put_back(others, kept)
        again.step = state.step
        require(equal(again.moving(), kept), "load() must become what tensors() gave")
        step()
        step_again()
        require(
            equal(again.moving(), state.moving()), "a step from what was remembered differs from one without a stop"
        )


def check_average(average: NoAverage) -> None:
    """Follow made-up weights over some updates.

    Checks that it never writes to the weights that step, and that one which begins where this one began and is given
    what this one carried ends as this one does.
    """
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(size, generator=draw) for size in (5, 3)]
    masters = [one.clone() for one in start]
    carried = average.begin(masters)
    for step in range(1, STEPS + 1):
        masters = [one + torch.randn(one.shape, generator=draw) for one in masters]
        kept = [one.clone() for one in masters]
        average.stepped(carried, masters, step, STEPS)
        average.measured(carried, masters, step, 1.0 / step)
        require(all(map(torch.equal, masters, kept)), "an average must not change the weights that step")
    over = Over(masters, STEPS, STEPS, lambda found: float(sum(one.square().sum() for one in found)))
    whole = average.end(carried, over).weights or carried.mean
    again = average.begin(start)
    again.put_back({name: one.clone() for name, one in carried.moving().items()}, torch.device("cpu"))
    again.choose(carried.chosen(), torch.device("cpu"))
    resumed = average.end(again, over).weights or again.mean
    require(
        len(resumed) == len(whole) and all(map(torch.equal, resumed, whole)),
        "what is carried by moving() and chosen() must end as what never stopped",
    )


def check_task(task: Task) -> None:
    """Run a task of one of the three kinds on tiny rows.

    Checks the state, targets and shapes; that denominators follow from targets alone and the loss couples no
    examples; that outputs which minimise the loss decode to the targets, also in their own unit and, where the task is
    tempered, at another temperature; that answers diverge by nothing from themselves, and that targets are such as
    sampling and contrasts take them, where the task says so; and that every name is in the catalog.
    """
    rows, columns = tiny_rows(task.kind)
    state, _ = task.prepare(rows, columns)
    require(json.loads(json.dumps(state)) == state, "prepare() must return a state that JSON keeps as it is")
    targets = task.encode_targets(rows, columns, state)
    require(len(targets) == len(rows), f"encode_targets() gave {len(targets)} targets for {len(rows)} rows")
    for name in (*task.metrics, task.default_metric(targets, state)):
        metric = catalog.find("metric", name)
        require(task.kind in metric.kinds, f"the metric {name!r} does not fit {task.kind}")
    for name in task.baselines:
        catalog.find("learner", name)
    outputs = check_loss(task, state, torch.from_numpy(targets))
    found = task.decode(outputs.numpy(), rows.ids, task.tune(outputs.numpy(), targets, state))
    require(found.kind == task.kind, f"decode() says {found.kind!r}, the task {task.kind!r}")
    require(np.array_equal(found.row_ids, rows.ids), "decode() must keep the row ids and their order")
    right = found.decided == targets if task.kind != "regression" else np.isclose(found.decided, targets, rtol=0.05)
    require(bool(np.mean(right) > 0.95), "outputs with the lowest loss must decode to the targets")
    check_scale(task, state, outputs.numpy(), rows.ids)
    check_settings(task)
    check_divergence(task, outputs)
    check_classes(task, targets)
    check_growth(task, state, outputs.numpy(), rows.ids)
    proper = {
        term.name for term in task.proper().loss(outputs, torch.from_numpy(targets), torch.ones(len(rows)), state)
    }
    require(
        proper == set(task.weights(torch.from_numpy(targets), torch.ones(len(rows)), state)), "proper() has other terms"
    )
    link, wanted = task.solvable(targets, state)
    require(link in ("softmax", "sigmoid", "identity"), f"solvable() names an unknown link {link!r}")
    require(len(wanted) == len(rows), "solvable() must give one target a row")


def check_scale(task: Task, state: State, outputs: Array, ids: Array) -> None:
    """Folding the target's own unit into the outputs, or a temperature, must not change what is decided."""
    plain = task.decode(outputs, ids, state)
    scale, shift, kept = task.own_unit(state)
    folded = task.decode(outputs * scale + shift, ids, kept)
    require(
        np.allclose(folded.scores, plain.scores, rtol=1e-4),
        "the factor and shift of own_unit() do not fit the state it leaves",
    )
    if task.tempered and task.kind == "classification":
        cooled = task.decode(outputs / 2, ids, state)
        require(np.array_equal(cooled.decided, plain.decided), "a tempered task must decide alike at any temperature")


def check_settings(task: Task) -> None:
    """The settings that a task says shape its loss and weights are its own, and ``proper`` changes no others."""
    known = {entry.name for entry in fields(task)}  # type: ignore[arg-type]
    named = [*task.loss_settings, *task.weight_settings]
    strays = [name for name in named if name not in known]
    require(not strays, f"loss_settings and weight_settings must name fields of the task, not {strays}")
    require(len(set(named)) == len(named), "a setting shapes the weights or the loss alone, so it is named once")
    proper = task.proper()
    others = [name for name in known - set(task.loss_settings) if getattr(proper, name) != getattr(task, name)]
    require(not others, f"proper() changes {others}, which loss_settings does not name")


def check_divergence(task: Task, outputs: Tensor) -> None:
    """Where two answers can be compared: one number an example, 0 between equal ones, and a slope."""
    if task.divergence is None:
        return
    moved = (outputs + torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    apart = task.divergence(outputs, moved)
    require(apart.shape == (len(outputs),), "divergence() must give one number an example")
    require(bool((apart > 0).any()) and bool((apart >= 0).all()), "divergence() must be above 0 for other answers")
    require(near(apart, task.divergence(moved, outputs)), "divergence() must be the same both ways")
    require(near(task.divergence(outputs, outputs), torch.zeros(len(outputs))), "equal answers must diverge by 0")
    apart.sum().backward()  # type: ignore[no-untyped-call]
    require(moved.grad is not None and bool((moved.grad != 0).any()), "divergence() must be differentiable")


def check_classes(task: Task, targets: Array) -> None:
    """Targets as sampling and contrasts take them, where the task says that they may."""
    if task.balanceable:
        require(len(np.unique(strata_of(targets))) > 1, "the targets of a balanceable task must fall into classes")
    if task.contrastable:
        whole = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
        require(whole, "the targets of a contrastable task must be class numbers, one a row")


def check_modality(
    modality: Modality,
    folder: Path | None = None,
    values: Sequence[tuple[Any, ...]] = (),
    cells: Sequence[str] = (),
) -> None:
    """Read a column as a modality does, and run its processor on a few values.

    Args:
        folder: The pre-trained model that the processor belongs to; by default a tiny text model.
        values: Raw values, one or two to a tuple; by default texts.
        cells: Such inputs as a column of a file holds them, all different; by default texts.
    """
    check_column(modality, list(cells) or [f"{topic[0]} number {place}" for place, topic in enumerate(TOPICS)])
    draw = np.random.default_rng(0)
    some = list(values) or [("",), *((sentence(topic, draw),) for topic in TOPICS), (" ".join(FILLERS * 20),)]
    with TemporaryDirectory() as place:
        home = folder or tiny_text_model(Path(place) / "model")
        processor = modality.processor(home, max_length=None, pairs=len(some[0]) > 1)
        again = modality.processor(home, max_length=None, pairs=len(some[0]) > 1)
        require(processor.fingerprint() == again.fingerprint(), "fingerprint() must be the same for the same processor")
        require(json.loads(json.dumps(processor.record())) == processor.record(), "record() must be plain JSON values")
        encoded = processor.encode(some)
        owners = encoded.value
        require(bool((np.diff(owners) >= 0).all()), "encode() must keep the order of the values")
        require(set(owners.tolist()) == set(range(len(some))), "every value must become at least one piece")
        lengths = encoded.lengths
        require(len(lengths) == len(owners) and bool((lengths > 0).all()), "every piece must have a length above 0")
        parts = np.concatenate([np.arange(count) for count in np.bincount(owners)])
        require(np.array_equal(encoded.part, parts), "parts must count 0, 1, ... within each value")
        for name, ragged in encoded.inputs.items():
            require(len(ragged) == len(owners), f"{name!r} has {len(ragged)} arrays for {len(owners)} pieces")
        batch = processor.collate(encoded.inputs)
        for name, tensor in batch.items():
            require(len(tensor) == len(owners), f"collate() gave {len(tensor)} of {name!r} for {len(owners)} pieces")
        alone = [processor.encode([value]) for value in some]
        for name, ragged in encoded.inputs.items():
            apart = [array for one in alone for array in one.inputs[name]]
            require(
                len(apart) == len(ragged) and all(np.array_equal(a, b) for a, b in zip(apart, ragged, strict=True)),
                f"encode() must treat each value on its own; {name!r} differs when values come alone",
            )
        require(len(processor.walk(some[-1])) > 0, "walk() must show at least one step")


def check_augmentation(augmentation: Augmentation, modality: Augmentable, inputs: Mapping[str, Ragged]) -> None:
    """Change some pieces, as views do.

    Checks that shapes and types stay; that equal draws give equal pieces, whatever lies beside them, but for a rounding
    of 8 bits; that something changes; and that its settings say all that decides, for views are known by them.

    Args:
        inputs: A dozen pieces or so, as a processor of the modality encodes them.
    """
    require(isinstance(augmentation.mild, bool) and isinstance(augmentation.usual, bool), "mild and usual must be bool")
    settings = {one.name: getattr(augmentation, one.name) for one in fields(augmentation)}  # type: ignore[arg-type]
    require(type(augmentation)(**settings) == augmentation, "settings must be all that a frozen dataclass holds")
    number = len(next(iter(inputs.values())))

    def changed(some: Sequence[int]) -> dict[str, Ragged]:
        draws = [np.random.default_rng([7, place]) for place in some]
        taken = {name: ragged.take(np.array(some)) for name, ragged in inputs.items()}
        return modality.augment(taken, (augmentation,), draws)

    every, again, last = changed(range(number)), changed(range(number)), changed([number - 1])
    moved = False
    for name, ragged in inputs.items():
        for place, before in enumerate(ragged):
            after = every[name][place]
            require(after.shape == before.shape and after.dtype == before.dtype, f"{name!r} must keep shape and type")
            require(np.array_equal(after, again[name][place]), "equal draws must give equal pieces")
            moved = moved or not np.array_equal(before, after)
        apart = np.abs(every[name][number - 1].astype(np.float64) - last[name][0].astype(np.float64))
        require(
            float(apart.max(initial=0.0)) <= 1.0, "a piece must follow from its own draws, not from those beside it"
        )
    require(moved, "an augmentation must change something")


def check_column(modality: Modality, cells: list[str]) -> None:
    """What rows are read as, before any model is chosen."""
    column = pa.chunked_array([[*cells, cells[0]]], pa.string())
    rows, columns = Rows(pa.table({"input": column}), "rows"), Columns(("input",), (), modality=modality)
    (summary,) = describe_columns(rows)
    require(modality.recognise(summary) > 0, "recognise() must suit a column of its own kind")
    rows, _ = modality.admit(rows, "input")
    (batch,) = rows.batches(["input"])
    raw = modality.values(batch.columns, None)
    require(len(raw) == len(column), f"values() gave {len(raw)} of {len(column)} rows")
    require(all(modality.given(one) is not None for (one,) in raw), "given() must take what values() gives")
    keys = modality.keys(batch.columns, None)
    require(keys[0] == keys[-1], "keys() must be equal for equal inputs")
    require(len(set(keys)) == len(cells), "keys() must differ for different inputs")
    sizes = modality.sizes(batch.columns, None)
    require(len(sizes) == len(column) and min(sizes) >= 0, "sizes() must give a number from 0 on for every row")
    whole = modality.anchored(rows.table.column("input"), Path())
    require(modality.keys(whole.chunks, None) == keys, "anchored() must name the same inputs wherever rows lie")
    hashes = np.arange(len(keys), dtype=np.uint64)
    pairs = modality.near([rows], [hashes], columns).pairs
    require(pairs.ndim == 2 and pairs.shape[1] == 4, "near() must give (P, 4) pairs of a table and a position, twice")
    words = (*modality.nouns, modality.example, modality.hub_task)
    require(len(words) == 4 and all(words), "a modality must have two nouns, an example and the hub's name of its task")


def check_backbone(family: Family, folder: Path, inputs: Mapping[str, Tensor] | None = None) -> None:
    """Load a model and check its shape, its cuts, and that saving and reloading keep its answers.

    Args:
        folder: A pre-trained model of the family, the smaller the better.
        inputs: A batch that it takes; by default eight rows of token ids.
    """
    batch = dict(inputs or {"input_ids": torch.arange(5, 53).reshape(8, 6)})
    backbone = family.load(folder, outputs=3, seed=0)
    model = backbone.model
    require(not any(module.training for module in model.modules()), "load() must return the model in evaluation mode")
    require(not answers(model, batch).any(), "the new head must start at zero, every class equally likely")
    start_head(model)
    before = answers(model, batch)
    other = family.load(folder, outputs=3, seed=0).model
    start_head(other)
    require(torch.equal(answers(other, batch), before), "load() must give the same model for the same seed")
    names = {name for name, _ in model.named_parameters()}
    for kind in ("created", "unused"):
        unknown = set(getattr(backbone, kind)) - names
        require(not unknown, f"{kind} names parameters that do not exist: {sorted(unknown)[:3]}")
    for name in (*backbone.blocks, *backbone.stem, *backbone.tail):
        model.get_submodule(name)
    require(len(backbone.cuts) > 0, "there must be at least one cut, the one behind the body")
    for cut in backbone.cuts:
        require(not set(cut.below) & set(backbone.created), f"the cut {cut.name!r} has a new parameter below it")
        with torch.no_grad():
            held = cut.capture(model, batch)
            with cut.inject(model) as holder:
                holder.tensors = held
                replayed = model(**batch)
        require(torch.equal(replayed, before), f"replaying the cut {cut.name!r} changes the answers")
    require(torch.equal(answers(model, batch), before), "inject() must put everything back afterwards")
    with TemporaryDirectory() as place:
        model.scaler.mean.fill_(0.1)
        model.scaler.scale.fill_(2.0)
        scaled = answers(model, batch)
        family.save(model, Path(place) / "saved", source=folder, meaning=Meaning("classification", ("a", "b", "c")))
        again = family.reload(Path(place) / "saved")
        require(near(answers(again, batch), scaled), "what save() wrote answers otherwise; is the scaler folded in?")


def check_metric(metric: Metric) -> None:
    """Run a metric on random predictions of every kind it names."""
    require(len(metric.kinds) > 0, "a metric must name the kinds of predictions it fits")
    require(isinstance(metric.fewest, int) and metric.fewest >= 1, "fewest must be a number of rows, at least 1")
    for kind in sorted(metric.kinds):
        good, poor = tiny_predictions(kind, 0.9), tiny_predictions(kind, 0.3)
        rows = metric.per_row(good)
        require(len(rows) == len(good), f"per_row() gave {len(rows)} rows for {len(good)} predictions")
        require(bool(np.isfinite(rows).all()), "per_row() must be finite")
        some = np.array([5, 2, 2, 40])
        require(np.allclose(metric.per_row(good.take(some)), rows[some]), "per_row() must look at each row alone")
        high, low = value_of(metric, good), value_of(metric, poor)
        require(all(metric.bounds[0] <= value <= metric.bounds[1] for value in (high, low)), "a value is out of bounds")
        require(
            (high > low) == metric.higher_is_better,
            f"better predictions got {high:.3f}, worse ones {low:.3f}; is higher_is_better right?",
        )
        if metric.additive:
            sums = np.stack([rows.sum(axis=0), rows.sum(axis=0)])
            require(np.shape(metric.combine(sums)) == (2,), "an additive metric must combine (..., S) to (...)")
        if metric.proportion:
            require(bool((rows[:, 1] == 1).all()), "the statistics of a proportion are (right, 1)")


def check_learner(learner: Learner, kinds: Sequence[Kind] = ("classification", "multi-label", "regression")) -> None:
    """Fit a learner to tiny rows of every kind and ask it for answers to rows without targets."""
    with TemporaryDirectory() as place:
        folder = tiny_text_model(Path(place) / "model", layers=2)
        processor = Text().processor(folder, max_length=None, pairs=False)
        pretrained = Pretrained(TextEncoder(), folder, processor, Machinery(), 0)
        for kind in kinds:
            rows, columns = tiny_rows(kind)
            task: Task = catalog.find("task", kind)()
            state, _ = task.prepare(rows, columns)
            targets = task.encode_targets(rows, columns, state)
            material = Material(task, state, columns, rows, targets, 0, pretrained)
            material = replace(material, earlier=Majority().fit(material))
            fitted = learner.fit(material)
            unseen = rows.without(columns.target).select(np.arange(20)[::-1])
            found = fitted.predict(unseen)
            require(found.kind == kind, f"predict() says {found.kind!r} after a fit to {kind!r}")
            require(np.array_equal(found.row_ids, unseen.ids), "predict() must keep the row ids and their order")
            require(found.targets is None, "predict() must not fill in targets; only judge knows them")
            require(bool(np.isfinite(found.scores).all()), "scores must be finite")
            if kind == "classification":
                require(np.allclose(found.scores.sum(axis=1), 1, atol=1e-5), "class scores must sum to 1")
            again = learner.fit(material).predict(unseen)
            require(
                again.scores.tobytes() == found.scores.tobytes(), "the same material and seed must give the same bytes"
            )
            alone = fitted.predict(unseen.select(np.array([3])))
            require(
                np.allclose(alone.scores, found.scores[3:4], rtol=1e-3, atol=1e-4),
                "the answer for a row must not depend on the rows it is asked with",
            )


def check_tracker(tracker: Tracker) -> None:
    """Let a tracker follow a run that is stopped in the middle, and the same run resumed from a checkpoint."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "tracks"
        for events in (tiny_events(upto=9), tiny_events(first=5)):
            with opened([tracker], folder) as (observer,):
                for event in events:
                    observer(event)
        require(isinstance(tracker.view(folder), str), "view() must give a command, or nothing")
        account = tracker.account(folder)
        require(account is None or bool(account.figures), "an account needs a figure, or it is none")
        record = {} if account is None else account.record
        require(json.loads(json.dumps(record)) == record, "an account's record must be plain values that JSON keeps")
        outside = sorted(path.name for path in Path(place).iterdir() if path != folder)
        require(not outside, f"a tracker writes below the folder it is given and nowhere else, not {outside}")


def tiny_events(first: int = 1, upto: int = 12) -> list[Event]:
    """What a run of two fits says: from update ``first`` of the second one on, and only up to ``upto``."""
    some: list[Event] = [
        Fitting(stage="probe"),
        Started(stage="probe", steps=0, examples=64),
        Fitting(stage="full"),
        Started(stage="full", steps=12, examples=64),
    ]
    usual = Stepped(stage="full", step=0, steps=12, epoch=0, loss=0.0, learning_rate=1e-3, examples=8, seconds=0.1)
    for step in range(first, upto + 1):
        some.append(replace(usual, step=step, loss=1 / step))
        if step % 4 == 0:
            some.append(Evaluated(stage="full", step=step, loss=2 / step, best=True))
            some.append(Checkpointed(stage="full", step=step, path="checkpoint"))
    if upto < 12:
        return some
    stopped = Stopped(stage="full", step=12, reason="done", seconds=1.2)
    return [
        *some,
        stopped,
        Said(stage="judge", message="Judging."),
        Judged(stage="judge", scores={"test": {"f1": 0.5}}),
    ]


def require(holds: bool, sentence: str) -> None:
    """Raise AssertionError, also under ``python -O``."""
    if not holds:
        raise AssertionError(sentence[0].upper() + sentence[1:] + ".")


def check_stages(method: Method, stages: list[Stage], backbone: Backbone) -> None:
    """Names, groups and settings of a method's stages."""
    for name in STATED:
        require(hasattr(method, name), f"a method must state {name}")
    require(len(stages) > 0, "stages() must name at least one stage")
    labels = [stage.name for stage in stages]
    require(len(set(labels)) == len(labels), f"stages must have different names, got {labels}")
    known = {name for name, _ in backbone.model.named_parameters()}
    for stage in stages:
        names = [name for group in stage.groups for name in group.names]
        unknown = set(names) - known
        require(not unknown, f"stage {stage.name!r} names parameters that do not exist: {sorted(unknown)[:3]}")
        require(len(set(names)) == len(names), f"stage {stage.name!r} names a parameter in two groups")
        again = set(names) & set(backbone.created)
        require(not again, f"stage {stage.name!r} names new parameters, which train anyway: {sorted(again)[:3]}")
        solved = getattr(stage.objective, "solved", None)
        require(stage.objective is None or solved is not None, f"the loss of stage {stage.name!r} must state solved")
        require(set(stage.still) <= set(names), f"stage {stage.name!r} calls parameters still that it does not name")
        if isinstance(stage.fit, Solve):
            require(not names, f"stage {stage.name!r} solves the head, so it cannot move {names[:3]}")
        else:
            require(bool(names) or stage.head, f"stage {stage.name!r} trains nothing")
    if not any(stage.descends for stage in stages):
        require(not method.epochs, "a method without steps must state 0 epochs")
    else:
        require(method.learning_rate > 0, "a method that descends must state a learning_rate above 0")
        require(method.epochs >= 1, "a method that descends must state at least one epoch")
    watched = any(stage.minimises_loss for stage in stages)
    require(method.stops == watched, f"stops must be {watched}: that is whether a stage minimises the task's loss")


def check_place(method: Method) -> None:
    """A method of the ladder stands at a height, and its class has a place or none at every size."""
    kind: Any = type(method)
    for parameters, rows, classes, compared in itertools.product((0, 10**12), (0, 30, 10**9), (0, 3), (0, 32)):
        size = Size(parameters=parameters, rows=rows, classes=classes, compared=compared)
        if isinstance(kind, OnLadder):
            require(kind.height in (1, 2, 3), f"height must be 1, 2 or 3, not {kind.height}")
            found = kind.place(size)
            require(found is None or isinstance(found, Place), f"place() gives {found!r}, no Place and not None")


def check_top_down(method: Method, family: TextEncoder, folder: Path, most: int) -> None:
    """Settings for the top blocks, where the method has any, move every one of them and nothing below."""
    kind: Any = type(method)
    for blocks in range(most + 1) if isinstance(kind, TopDown) else ():
        settings = kind.for_top(blocks)
        if settings is None:
            continue
        backbone = tiny_backbone(family, folder, 2)
        chosen: Method = kind(**settings)
        stages = chosen.stages(chosen.prepare(backbone))
        names = {name for stage in stages for group in stage.groups for name in group.names}
        moving = [any(within(name, (block,)) for name in names) for block in backbone.blocks]
        wanted = [False] * (len(moving) - blocks) + [True] * blocks
        require(moving == wanted, f"for_top({blocks}) gives settings under which other blocks move: {moving}")
        below = {name for name in names if within(name, backbone.stem)}
        require(not below, f"for_top({blocks}) gives settings under which what lies before the blocks moves")


def check_movement(stage: Stage, backbone: Backbone, source: Source, task: Task, state: State) -> None:
    """Take three steps and compare every tensor; a solved stage takes none."""
    if isinstance(stage.fit, Solve):
        return
    model = backbone.model
    groups = stage.groups + ((RateGroup(names=backbone.created),) if stage.head else ())
    named = {name for group in groups for name in group.names}
    kept = {name: tensor.detach().clone() for name, tensor in all_tensors(model).items()}
    working = Working.of(model, "float32", torch.device("cpu"))
    working.trainable(named)
    settings = Training(warmup=0.0, schedule="constant", clip=0.0)
    steps = start_state(working, groups, RATE, settings)
    budget = Budget(steps=STEPS, every=STEPS, evaluate=None, settings=settings)
    objective: Objective = TaskObjective(task, state, working.live, None)
    if stage.objective is not None:
        objective = FeatureObjective(stage.objective, working.live, None)
    set_training(working.live, None)
    for _ in range(STEPS):
        take_step(steps, stage.name, source, objective, working, budget, 0)
    model.eval()
    moved = {name for name, tensor in all_tensors(model).items() if not torch.equal(tensor, kept[name])}
    stayed = sorted(named - moved - set(stage.still))
    require(
        not stayed,
        f"stage {stage.name!r} names {len(stayed)} parameters that did not move in {STEPS} steps, first {stayed[:1]}; "
        "list those whose gradient is zero by construction in Stage.still",
    )
    strays = sorted(moved - named)
    require(not strays, f"stage {stage.name!r} moved {len(strays)} tensors that it does not name, first {strays[:1]}")


def tiny_steps(optimizer: Optimizer, folder: Path) -> tuple[FitState, Working, Callable[[], object]]:
    """A state that trains every weight of the model in ``folder``, the model, and what takes the next step."""
    source, task, taught = tiny_source(folder)
    backbone = tiny_backbone(TextEncoder(dropout=0.0), folder, task.outputs(taught))
    names = tuple(name for name, _ in backbone.model.named_parameters() if name not in backbone.unused)
    working = Working.of(backbone.model, "float32", torch.device("cpu"))
    working.trainable(names)
    settings = Training(optimizer=optimizer, warmup=0.0)
    rate = RATE * optimizer.usual_rate
    state = start_state(working, (RateGroup(names=names),), rate, settings, undecayed(backbone))
    budget = Budget(steps=10 * STEPS, every=STEPS, evaluate=None, settings=settings)
    objective = TaskObjective(task, taught, working.live, None)
    set_training(working.live, None)
    return state, working, lambda: take_step(state, "check", source, objective, working, budget, 0)


def equal(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same names and values."""
    return some.keys() == others.keys() and all(torch.equal(tensor, others[name]) for name, tensor in some.items())


def check_reloading(
    method: Method, family: Family, folder: Path, backbone: Backbone, inputs: Mapping[str, Tensor]
) -> None:
    """Weights saved as safetensors and loaded into a freshly prepared model."""
    from safetensors.torch import load, save

    model = backbone.model
    data = save({name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()})
    fresh = method.prepare(tiny_backbone(family, folder, model.head.out_features)).model
    unknown = set(fresh.state_dict()) ^ set(load(data))
    require(not unknown, f"prepare() must insert the same modules when loading; differing: {sorted(unknown)[:3]}")
    fresh.load_state_dict(load(data))
    require(torch.equal(answers(fresh, inputs), answers(model, inputs)), "loaded weights give other answers than saved")


def check_growth(task: Task, state: State, outputs: Array, row_ids: Array) -> None:
    """A state that grows by itself, also from its own unit, keeps every answer."""
    before = task.decode(outputs, row_ids, state)
    scale, shift, kept = task.own_unit(state)
    for earlier, given in ((state, outputs), (kept, outputs * scale + shift)):
        growth = task.grow(state, earlier)
        carried = (given.astype(np.float64) @ growth.matrix.T + growth.shift).astype(np.float32)
        after = task.decode(carried, row_ids, growth.state)
        require(after.labels == before.labels, "grow() must keep the labels that both states know")
        require(np.allclose(after.scores, before.scores, rtol=1e-4, atol=1e-4), "grow() must keep earlier answers")


def check_loss(task: Task, state: State, targets: Tensor) -> Tensor:
    """Denominators and terms of a task's loss; returns outputs (N, K) at which it is lowest."""
    count, width = len(targets), task.outputs(state)
    draw = torch.Generator().manual_seed(0)
    shares = 0.5 + torch.rand(count, generator=draw)
    outputs = torch.randn(count, width, generator=draw).requires_grad_()
    terms = task.loss(outputs, targets, shares, state)
    weights = task.weights(targets, shares, state)
    require({term.name for term in terms} == set(weights), "weights() and loss() must name the same terms")
    half = count // 3
    parts = [
        task.loss(outputs[place], targets[place], shares[place], state)
        for place in (slice(0, half), slice(half, count))
    ]
    for term, first, second in zip(terms, *parts, strict=True):
        require(term.sums.shape == (count,), f"the sums of {term.name!r} must be one number an example")
        require(near(term.weights, weights[term.name]), f"the weights of {term.name!r} must follow from targets alone")
        joined = torch.cat([first.sums, second.sums])
        require(near(joined, term.sums), f"the term {term.name!r} couples examples: a part of the batch gives others")
    free = torch.zeros(count, width, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        found = task.loss(free, targets, torch.ones(count), state)
        torch.stack([term.coefficient * term.sums.sum() / term.weights.sum() for term in found]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return free.detach()


def tiny_vocabulary() -> list[str]:
    """Special tokens, the words of ``tiny_rows``, and letters, so that any Latin word can be written."""
    words = dict.fromkeys((*FILLERS, *(word for topic in TOPICS for word in topic)))
    return [*SPECIAL, *words, *LETTERS, *(f"##{letter}" for letter in LETTERS), *".,;!?"]


def write_tokenizer(folder: Path, vocabulary: list[str], positions: int) -> None:
    """A WordPiece tokenizer.json and its config."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def sentence(words: Sequence[str], draw: np.random.Generator) -> str:
    """Two of ``words`` among two to nine fillers."""
    chosen = [*draw.choice(words, 2), *draw.choice(FILLERS, int(draw.integers(2, 10)))]
    return " ".join(str(word) for word in draw.permutation(chosen))


def tiny_source(folder: Path) -> tuple[Source, Task, State]:
    """Batches of eight classified rows for the model in ``folder``."""
    rows, columns = tiny_rows("classification")
    task: Task = catalog.find("task", "classification")()
    state, _ = task.prepare(rows, columns)
    processor = Text().processor(folder, max_length=None, pairs=False)
    examples: Examples = task.encode(rows, columns, processor, state, targeted=True)
    return Source(examples, processor, 8, 8, 0), task, state


def tiny_backbone(family: Family, folder: Path, outputs: int) -> Backbone:
    """Freshly loaded, with a head that is no longer zero, so that gradients reach the body."""
    backbone = family.load(folder, outputs=outputs, seed=0)
    start_head(backbone.model)
    return backbone


def start_head(model: HeadedModel) -> None:
    """Draw the head from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=draw))


def all_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def answers(model: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Outputs in evaluation mode."""
    model.eval()
    with torch.no_grad():
        found: Tensor = model(**inputs)
    return found


def near(one: Tensor, other: Tensor) -> bool:
    """Equal but for the rounding of float32."""
    return one.shape == other.shape and bool(torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-5))


def tiny_predictions(kind: Kind, skill: float, rows: int = 200) -> Predictions:
    """Random predictions that are right with probability ``skill``."""
    draw = np.random.default_rng(0)
    right, ids, labels = draw.random(rows) < skill, np.arange(rows), ("a", "b", "c")
    if kind == "regression":
        numbers = draw.normal(10, 3, rows)
        values = np.asarray(numbers + draw.normal(0, 3 * (1 - skill), rows))
        return Predictions(kind, ids, values[:, None], values, (), numbers)
    if kind == "classification":
        targets = draw.integers(0, 3, rows)
        classes = np.where(right, targets, (targets + 1) % 3)
        scores = np.full((rows, 3), 0.05)
        scores[ids, classes] = 0.9
        return Predictions(kind, ids, scores, classes, labels, targets)
    wanted = draw.random((rows, 3)) < 0.4
    decided = wanted ^ ~right[:, None]
    return replace(Predictions(kind, ids, np.where(decided, 0.9, 0.1), decided, labels), targets=wanted)
