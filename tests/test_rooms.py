"""Do imports inside whet point one way? The order of the rooms, and no cycle between files."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import whet

# Earlier rooms know nothing of later ones, and rooms on one line know nothing of each other.
ORDER = [
    ["errors", "atomic", "demo"],
    ["catalog", "numeric"],
    ["data"],
    ["modalities"],
    ["backbones"],
    ["tasks", "methods"],
    ["training"],
    ["learners", "trackers"],
    ["plan"],
    ["evaluation", "doctor"],
    ["report", "deploy"],
    ["dry_run", "sample"],
    ["trial"],
    ["forecast"],
    ["footprint", "payback", "rungs"],
    ["folder"],
    ["earlier", "wanted"],
    ["recognise"],
    ["checking"],
    ["choices", "unread"],
    ["resolve"],
    ["request"],
    ["going_on", "shipped"],
    ["telling", "evaluate", "listing"],
    ["run", "inspection"],
    ["search"],
    ["api"],
    ["testing", "cli", "web", "sklearn"],
    ["__init__", "__main__"],  # the package itself lists what users see, so no room may import it
]
TIERS = {room: tier for tier, rooms in enumerate(ORDER) for room in rooms}
ROOT = Path(str(whet.__file__)).parent
MODULES = {
    ".".join(("whet", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Line and target of every import of a part of whet, wherever in the file it stands."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "whet":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            if base.partition(".")[0] == "whet":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield node.lineno, inner if inner in MODULES else base


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in MODULES} - set(TIERS) == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_earlier_rooms_or_stay_in_the_room(module: str) -> None:
    here = room(module)
    wrong = [
        f"{MODULES[module].relative_to(ROOT)}:{line} imports {target}"
        for line, target in imports(module)
        if room(target) != here and TIERS[room(target)] >= TIERS[here]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: {target for _, target in imports(module)} - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_import_of_whet_names_a_file_that_exists() -> None:
    missing = [(module, target) for module in MODULES for _, target in imports(module) if target not in MODULES]
    assert missing == []
