"""Does it fit memory, and if not, what makes it fit? Decided at plan time and written into the Plan.

The effective batch stays: an update is taken in parts, halved until one fits, and accumulation over them is exact. If
not even one example fits, blocks are computed again in the backward; if that does not help, the run is refused.
"""

from collections.abc import Iterator
from dataclasses import replace

from whet.errors import ConfigError, MachineError
from whet.forecast import LATE_BYTES, Speeds, memory_of
from whet.methods.method import Method
from whet.training.memory import SHARE


def fitted_to_memory(speeds: Speeds, method: Method) -> tuple[Speeds, str]:
    """The largest batches with which a method fits, and how they were made to fit, in words.

    Raises:
        MachineError: nothing makes it fit.
        ConfigError: the method cannot work with this model, task or plan.
    """
    if speeds.held + LATE_BYTES > speeds.limit:
        raise MachineError(
            f"The model alone holds {speeds.held / 2**30:.2f} GiB with all that runs it, and "
            f"{speeds.limit / 2**30:.2f} GiB may be taken, {SHARE:.0%} of what there is.",
            where="memory",
            fix="give the run more memory, or choose a smaller --model",
        )
    first = need_of(speeds, method)
    if first is not None and first <= speeds.limit:
        return speeds, ""
    for smaller in choices(speeds, method):
        need = need_of(smaller, method)
        if need is not None and need <= smaller.limit:
            return smaller, in_words(speeds, smaller, first)
    raise refusal(speeds, method, first)


def all_fitted(speeds: Speeds, methods: list[Method]) -> tuple[Speeds, str]:
    """The same for the rungs of a ladder; one that nothing makes fit is passed over, for the ladder leaves it out.

    Raises:
        MachineError, ConfigError: why the first one cannot be, where none can.
    """
    words = ""
    refused: list[MachineError | ConfigError] = []
    for method in methods:
        try:
            speeds, said = fitted_to_memory(speeds, method)
        except (MachineError, ConfigError) as error:
            refused.append(error)
        else:
            words = said or words
    if len(refused) == len(methods):
        raise refused[0]
    return speeds, words


def need_of(speeds: Speeds, method: Method) -> int | None:
    """The run's peak in bytes; None where a step could not even be tried."""
    return None if speeds.tried(method) is None else memory_of(speeds, method)


def choices(speeds: Speeds, method: Method) -> Iterator[Speeds]:
    """Ever smaller ways of doing the same: fewer examples a backward, blocks run again, fewer tokens a forward."""
    training, most = speeds.training, speeds.trial.pretrained.machinery.most_tokens
    size = training.micro_batch_size or training.batch_size
    if method.epochs:
        pair = 2 if training.mixup else 1  # which a micro-batch may not part
        while size > pair and not couples(speeds, method):
            size = (size + 1) // 2
            size += size % pair
            training = replace(training, micro_batch_size=size)
            yield speeds.under(training, most_tokens=most)
        if not training.gradient_checkpointing and has_blocks(speeds):
            training = replace(training, gradient_checkpointing=True)
            yield speeds.under(training, most_tokens=most)
    longest = int(speeds.sample.longest.lengths.max(initial=1))
    while most > longest:
        most = max(longest, most // 2)
        yield speeds.under(training, most_tokens=most)


def couples(speeds: Speeds, method: Method) -> bool:
    """Whether a loss of the method compares the examples of a batch, which then cannot be taken in parts."""
    _, stages = speeds.trial.learner(method, speeds.training).stages()
    return any(stage.objective is not None for stage in stages)


def has_blocks(speeds: Speeds) -> bool:
    """Whether the model has a chain of blocks."""
    trial = speeds.trial
    return bool(trial.pretrained.load(trial.task.outputs(trial.state)).blocks)


def in_words(before: Speeds, now: Speeds, need: int | None) -> str:
    """What was done, and why."""
    settings = now.training
    said = []
    if settings.micro_batch_size != before.training.micro_batch_size:
        said.append(f"{settings.micro_batch_size} examples a backward, {settings.batch_size} an update")
    if settings.gradient_checkpointing and not before.training.gradient_checkpointing:
        said.append("blocks run again in the backward (about a third more time)")
    tokens = now.trial.pretrained.machinery.most_tokens
    if tokens != before.trial.pretrained.machinery.most_tokens:
        said.append(f"{tokens:,} {now.trial.pretrained.processor.unit} a forward")
    much = "more memory than there is" if need is None else f"{need / 2**30:.1f} GiB"
    return f"{', '.join(said)}; else it would take {much}, and {now.limit / 2**30:.1f} GiB may be taken"


def refusal(speeds: Speeds, method: Method, need: int | None) -> MachineError:
    """Why nothing makes it fit, and what to do."""
    longest, processor = int(speeds.sample.longest.lengths.max(initial=1)), speeds.trial.pretrained.processor
    shorter = processor.record().get("max_length") is not None  # what has windows can have smaller ones
    if method.epochs and couples(speeds, method):
        what = f"A batch of {speeds.training.batch_size} examples does not fit memory, and its examples are compared"
        fix = f"choose a smaller training.batch_size, {'a shorter --max-length, ' * shorter}or another method"
        what += " with each other, so it cannot be taken in parts"
    else:
        what = f"Not even one example of {longest} {processor.unit} fits memory"
        window = f"--max-length {max(8, longest // 2)}, " * shorter
        fix = f"choose {window}--method probe or top-layers, or a smaller --model"
    much = "" if need is None else f" a run would take {need / 2**30:.2f} GiB, and"
    return MachineError(
        f"{what}:{much} {speeds.limit / 2**30:.2f} GiB may be taken, {SHARE:.0%} of what there is.",
        where="memory",
        fix=fix,
    )
