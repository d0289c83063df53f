"""What is in a model: where its weights come from, its parts with their parameters, and what crosses each cut."""

from collections.abc import Mapping, Sequence

import torch

from whet.backbones.backbone import Backbone, Cut
from whet.backbones.source import ModelSource, stored_types
from whet.methods.method import within
from whet.report.inspected import Crossing, Part, Weights


def weights_of(source: ModelSource, backbone: Backbone, family: str) -> Weights:
    """Provenance, and what lies on disk."""
    return Weights(
        name=source.name,
        origin=source.origin,
        folder=str(source.folder),
        revision=source.revision,
        licence=source.licence,
        sha256=source.sha256,
        architecture=source.architecture,
        bytes=source.bytes,
        stored=stored_types(source.folder),
        family=family,
        pooling=backbone.pooling,
        features=backbone.model.head.in_features,
    )


def parts_of(backbone: Backbone) -> tuple[Part, ...]:
    """Every parameter once, by the part it belongs to, from input to output."""
    kinds: list[tuple[str, str]] = [(name, "stem") for name in backbone.stem]
    kinds += [(name, "block") for name in backbone.blocks]
    kinds += [(name, "tail") for name in backbone.tail]
    held: dict[tuple[str, str], list[str]] = {kind: [] for kind in kinds}
    loose: dict[tuple[str, str], list[str]] = {}
    every = dict(backbone.model.named_parameters())
    for name in every:
        if name in backbone.created and name.startswith("head."):
            continue
        owner = next((kind for kind in kinds if within(name, (kind[0],))), None)
        if owner is None:  # lies in no module of its own, or the model has no chain
            loose.setdefault((".".join(name.split(".")[:3]), "stem"), []).append(name)
        else:
            held[owner].append(name)
    head = [name for name in every if name in backbone.created and name.startswith("head.")]
    parts = {**loose, **held, ("head", "head"): head}
    unused = set(backbone.unused)
    return tuple(
        Part(name, kind, count(every, names), count(every, [one for one in names if one in unused]))  # type: ignore[arg-type]
        for (name, kind), names in parts.items()
        if names
    )


def crossing(backbone: Backbone, cut: Cut) -> Crossing:
    """One cut: what could be frozen below, and how much crosses."""
    every = dict(backbone.model.named_parameters())
    below = count(every, [name for name in every if within(name, cut.below)])
    return Crossing(cut.name, below, cut.numbers(backbone.model) or None, cut.ragged)


def count(parameters: Mapping[str, torch.Tensor], names: Sequence[str]) -> int:
    """Numbers in the named parameters."""
    return sum(parameters[name].numel() for name in names)
