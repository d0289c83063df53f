"""Does every name in the catalog lead to a member, and is the front door light?"""

import subprocess
import sys
from importlib import import_module

import pytest

from whet.catalog import TABLES, find, name_of
from whet.errors import ConfigError

ROWS = [(kind, name) for kind, table in TABLES.items() for name in table]
HEAVY = ["torch", "transformers", "datasets", "pyarrow", "sklearn", "scipy", "pandas", "numpy"]


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_every_row_of_the_catalog_imports(kind: str, name: str) -> None:
    member = find(kind, name)
    assert callable(member)
    assert member.__doc__, f"{kind} {name!r} has no docstring"


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_a_class_in_the_catalog_finds_its_way_back_to_its_name(kind: str, name: str) -> None:
    member = find(kind, name)
    if isinstance(member, type):  # readers and checks are functions, and no plan names those by object
        assert name_of(kind, member) == name


def test_a_misspelt_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"no method named 'top-layer'") as caught:
        find("method", "top-layer")
    assert "'top-layers'" in caught.value.fix


def test_a_name_like_no_other_is_refused_with_every_name_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        find("task", "zzz")
    assert all(repr(name) in caught.value.fix for name in TABLES["task"])


def test_a_thing_outside_the_catalog_has_no_name() -> None:
    with pytest.raises(ConfigError, match="not in the catalog"):
        name_of("method", object())


@pytest.mark.parametrize(
    ("kind", "package"),
    [("method", "whet.methods"), ("tracker", "whet.trackers"), ("optimizer", "whet.training.optimizers")],
)
def test_a_package_has_its_members_by_their_class_names_and_no_others(kind: str, package: str) -> None:
    room = import_module(package)
    for name in TABLES[kind]:
        member = find(kind, name)
        assert getattr(room, member.__name__) is member
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        _ = room.Nothing


def test_every_public_name_is_there() -> None:
    whet = import_module("whet")
    assert [name for name in whet.__all__ if not hasattr(whet, name)] == []
    assert len(set(whet.__all__)) == len(whet.__all__)


@pytest.mark.parametrize("module", ["whet", "whet.catalog", "whet.errors", "whet.demo"])
def test_the_front_door_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
