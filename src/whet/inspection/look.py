"""What is in a model, what would each method train of it, and in which block do the rows' answers show?

Nothing is trained but convex heads.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whet import catalog
from whet.backbones.source import ModelSource
from whet.checking import Objects, run_of
from whet.choices import find_family, find_wanted_model, member_settings
from whet.data.rows import usual_modality
from whet.errors import ConfigError
from whet.inspection.blocks import probe_blocks
from whet.inspection.methods import method_facts
from whet.inspection.parts import crossing, parts_of, weights_of
from whet.inspection.rows import prepared_rows
from whet.plan import member_of
from whet.report.inspected import Inspection
from whet.telling import checked_facts
from whet.training.events import Event
from whet.wanted import cache_folder

OF_MODEL = ("model", "backbone", "modality", "training")
OF_ROWS = ("data", "task", "machinery", "evaluation", "cache", "seed")
"""Parts of a plan that say something of the model, and of the rows."""
OUTPUTS = 2
"""Width of the head that is counted where no rows say how many classes there are."""


def inspect_model(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Generator[Event, None, Inspection]:
    """Look at the model as named, and with rows also into its blocks.

    Args:
        wanted: A partial plan; without rows it has no part "data".
        objects: Rows and functions that were given as objects.
        scratch: Folder of the sealed targets.

    Raises:
        WhetError: there is no such model, or the rows cannot be used; a method that cannot work is part of the answer.
    """
    training = member_settings(wanted.get("training", {}))
    rows = prepared_rows(wanted, objects, scratch) if "data" in wanted or objects.rows is not None else None
    kind = member_of("modality", wanted["modality"]) if "modality" in wanted else usual_modality()
    source = rows.source if rows else find_wanted_model(wanted.get("model", {}), kind, cache_folder(wanted))
    if rows is None:
        family = member_of("backbone", named_family(wanted, source))
        run = run_of(wanted)
        backbone = family.load(source.folder, outputs=OUTPUTS if run is None else run.task.outputs(run.state), seed=0)
    else:
        family = rows.pretrained.family
        backbone = rows.pretrained.load(rows.checked.task.outputs(rows.state))
    found = Inspection(
        weights=weights_of(source, backbone, catalog.name_of("backbone", family)),
        outputs=backbone.model.head.out_features,
        parameters=sum(parameter.numel() for parameter in backbone.model.parameters()),
        parts=parts_of(backbone),
        cuts=tuple(crossing(backbone, cut) for cut in backbone.cuts),
        methods=tuple(method_facts(name, backbone, training, rows) for name in catalog.members("method")),
        notes=() if backbone.blocks else (
            "No chain of equal blocks was found: the model can be frozen or trained as a whole, and nothing between.",
        ),
    )  # fmt: skip
    if rows is None:
        return found
    probe = yield from probe_blocks(rows, backbone)
    return replace(found, data=checked_facts(rows.checked), probe=probe)


def refuse_unread(wanted: Mapping[str, Any], named: Sequence[str], *, with_rows: bool) -> None:
    """Refuse what would have no effect.

    Args:
        wanted: The partial plan; named: arguments that say something of rows, where they were given.

    Raises:
        ConfigError: a method's settings, or settings of rows without rows.
    """
    parts = [part for part in wanted if part not in OF_MODEL]
    if with_rows:
        named, parts = [], [part for part in parts if part not in OF_ROWS]
    if not named and not parts:
        return
    if named or parts[0] in OF_ROWS:
        raise ConfigError(
            f"Without rows, {(named or parts)[0]!r} has nothing to say.",
            where="inspect",
            fix="add --data FILE, and the column to predict with --target",
        )
    raise ConfigError(
        f"Inspecting shows every method at its defaults, so {parts[0]!r} has nothing to say.",
        where="inspect",
        fix="leave it out; `whet plan` shows a single method with your settings",
    )


def named_family(wanted: Mapping[str, Any], source: ModelSource) -> dict[str, Any]:
    """The family's name and settings as given, else the one that suits the folder best for any kind of input.

    Raises:
        ModelError: no family does.
    """
    given = wanted.get("backbone") or {}
    settings = {"name": given} if isinstance(given, str) else dict(given)
    if "name" in settings:
        return settings
    named = [wanted["modality"]] if "modality" in wanted else catalog.members("modality")
    return {"name": find_family(source, [member_of("modality", one) for one in named])} | settings
