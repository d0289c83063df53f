"""What a user wants frozen, whatever the method: names with wildcards, taken out of every stage.

A pattern such as "embeddings" or "encoder.layer.[0-3]" names modules by any run of dotted parts, each part with the
wildcards of file names.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError, closest
from whet.methods.method import RateGroup, Solve, Stage, reached


def without_frozen(stages: Sequence[Stage], backbone: Backbone, patterns: Sequence[str]) -> list[Stage]:
    """The stages without the parameters that a pattern names.

    Raises:
        ConfigError: a pattern names nothing, with near names; nothing is left to train in a stage; or in all of them
            nothing but the head.
    """
    if not patterns:
        return list(stages)
    every = [*reached(backbone), *backbone.created]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in every):
            parts = list(dict.fromkeys(part for name in every for part in name.split(".")[1:]))
            near = closest(pattern.rpartition(".")[2] or pattern, parts) or parts[:5]
            raise ConfigError(
                f"Nothing in the model is named {pattern!r}.",
                where="training.freeze",
                fix="use " + " or ".join(map(repr, near)) + "; `whet inspect` lists the model's parts",
            )
    kept = [stage if isinstance(stage.fit, Solve) else thinned(stage, backbone, patterns) for stage in stages]
    if any(stage.groups for stage in stages) and not any(stage.groups for stage in kept):
        raise nothing_left(patterns, "nothing but the head is left to train")
    return kept


def thinned(stage: Stage, backbone: Backbone, patterns: Sequence[str]) -> Stage:
    """One stage of steps without the frozen parameters."""

    def kept(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if not any(matches(pattern, name) for pattern in patterns))

    groups = [replace(group, names=kept(group.names)) for group in stage.groups]
    left: tuple[RateGroup, ...] = tuple(group for group in groups if group.names)
    head = stage.head and bool(kept(backbone.created))
    if not left and not head:
        raise nothing_left(patterns, f"nothing is left to train in the stage {stage.name!r}")
    return replace(stage, groups=left, head=head)


def nothing_left(patterns: Sequence[str], what: str) -> ConfigError:
    """Steps for what the probe solves at once, or for nothing, are refused."""
    return ConfigError(
        f"With {', '.join(map(repr, patterns))} frozen, {what}.",
        where="training.freeze",
        fix="freeze less, or use the method 'probe', which solves the head",
    )


def matches(pattern: str, name: str) -> bool:
    """Whether some run of the name's parts fits the pattern's parts, one by one."""
    wanted, parts = pattern.split("."), name.split(".")
    runs = (parts[begin : begin + len(wanted)] for begin in range(len(parts) - len(wanted) + 1))
    return any(all(fnmatchcase(part, want) for part, want in zip(run, wanted, strict=True)) for run in runs)
