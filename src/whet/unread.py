"""Which settings would nothing read? They are refused by name, so that whatever is accepted has an effect.

What a method reads follows from its stages. Every training setting needs a stage that takes steps; what shapes the
task's loss, or acts on it, needs one whose steps minimise that loss; the rate of the new head needs one that trains it.
Dropout of the backbone acts in steps alone. What measures validation loss needs rows that are held out.
A setting at its default is never refused. Of a ladder, one method that it may climb is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from whet import catalog
from whet.checking import Checked
from whet.errors import ConfigError
from whet.learners.neural import Pretrained, stages_of
from whet.methods.method import Method, Stage, serves
from whet.plan import Auto
from whet.rungs import climbable
from whet.tasks.own_loss import plain_task
from whet.tasks.task import changed
from whet.training.settings import OF_HEAD, OF_LOSS, Training

OF_VALIDATION = ("patience", "evaluations_per_epoch")
"""Training settings that act on validation loss."""
OF_STEPS = ("dropout", "attention_dropout")
"""Settings of a family that act on training steps."""
OWN_LOSS = "loss"
"""The argument of Python, which no plan file holds."""


def refuse_unread(training: Training, method: Any, checked: Checked, pretrained: Pretrained, outputs: int) -> None:
    """Refuse what was set and would act on nothing; the model is loaded only where stages must tell.

    Args:
        method: One, or a ladder, whose rungs need not be fixed yet.
        outputs: Width of the head.

    Raises:
        ConfigError: naming it; or the method cannot work with this model.
    """
    task = plain_task(checked.task)
    inherited = checked.run is not None and checked.run.task == task  # as the earlier run had it; nobody asked for it
    own = [] if task is checked.task else [OWN_LOSS]
    of_task = [] if inherited else [f"task.{name}" for name in changed(task, task.loss_settings)]
    given = training.changed()
    methods = climbable(method, pairs=False) if isinstance(method, Auto) else [method]
    if not any(one.epochs for one in methods):
        of_family = named_dropouts(pretrained.family, checked)
        require_none([*settings(given), *of_family, *of_task, *own], method, "takes no gradient steps")
        return
    of_loss = [*settings(given, OF_LOSS), *of_task, *own]
    of_head = settings(given, OF_HEAD)

    def some(holds: Callable[[Stage], bool]) -> bool:
        return any(holds(stage) for stage in every_stage(methods, pretrained, training, outputs))

    if of_loss and not some(lambda stage: stage.minimises_loss):
        require_none(of_loss, method, "never minimises the task's loss")
    if of_head and not some(lambda stage: stage.descends and stage.head):
        require_none(of_head, method, "takes no step with the new head")
    if not isinstance(method, Auto):  # whether a ladder holds rows out is settled with its rungs
        refuse_unmeasured(training, method, checked)


def settings(given: Sequence[str], among: Sequence[str] | None = None) -> list[str]:
    """Training settings as a plan names them."""
    return [f"training.{name}" for name in given if among is None or name in among]


def named_dropouts(family: Any, checked: Checked) -> list[str]:
    """Dropouts of a family that are neither its defaults nor an earlier run's, as a plan names them."""
    usual = {entry.name: entry.default for entry in fields(family) if entry.name in OF_STEPS}
    before = {} if checked.run is None else checked.run.record["family"]["settings"]
    return [
        f"backbone.{name}"
        for name, value in usual.items()
        if getattr(family, name) not in (value, before.get(name, value))
    ]


def refuse_unmeasured(training: Training, method: Method, checked: Checked) -> None:
    """Refuse what acts on validation loss where no rows are held out for it; not to stop early is then no wish in vain.

    Raises:
        ConfigError: naming it.
    """
    valid = 0 if checked.split.valid is None else len(checked.split.valid)
    given = [name for name in training.changed() if name in OF_VALIDATION and getattr(training, name)]
    if not valid or not serves(method, valid):
        fix = "hold rows out with --valid FILE or --set data.valid_fraction=0.15"
        require_none(settings(given), method, "has no validation rows to stop by", fix)


def every_stage(methods: Sequence[Method], pretrained: Pretrained, training: Training, outputs: int) -> Iterator[Stage]:
    """The stages of each method; of several, one that cannot work with this model is left out, as a ladder does.

    Raises:
        ConfigError: the only one cannot work.
    """
    for method in methods:
        try:
            yield from stages_of(method, pretrained.load(outputs, training.dropout), training)[1]
        except ConfigError:
            if len(methods) == 1:
                raise


def require_none(idle: Sequence[str], method: Any, why: str, fix: str = "") -> None:
    """Refuse settings that have nothing to act on.

    Args:
        fix: What would give them something; another method, unless it is said.

    Raises:
        ConfigError: there is one.
    """
    if not idle:
        return
    climbs = isinstance(method, Auto)
    who = "The ladder" if climbs else f"The method {catalog.name_of('method', method)!r}"
    words = ["the loss of your own" if name == OWN_LOSS else name for name in idle]
    has, it = ("has", "it") if len(idle) == 1 else ("have", "them")
    other = "add top-layers or full to method.methods" if climbs else "use --method top-layers, full or auto"
    raise ConfigError(
        f"{who} {why}, so {' and '.join(words)} {has} nothing to act on.",
        where=idle[0],
        fix=f"leave {it} out, or {fix or other}",
    )
