"""Do the pages say what is so: examples that run, files that exist, no place of ours?"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:tests|src|docs)/[\w/.-]+\.\w+)`", text)
    assert [name for name in named if not (ROOT / name).exists() and "mine" not in name] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_place_of_ours(page: Path) -> None:
    assert not re.search(r"/(home|root|work|Users|tmp)/", page.read_text(encoding="utf-8"))


def test_the_method_of_the_page_keeps_the_contract() -> None:
    from dataclasses import dataclass

    from whet.backbones.backbone import Backbone
    from whet.methods.method import Descend, RateGroup, Solve, Stage
    from whet.testing import check_method

    page = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "class BiasOnly" in block)
    names = {thing.__name__: thing for thing in (dataclass, Backbone, Descend, RateGroup, Solve, Stage)}
    space: dict[str, object] = {**names, "__name__": "page"}
    exec(compile(code, "adding.md", "exec"), space)
    method = space["BiasOnly"]
    assert callable(method)
    check_method(method())


def test_every_command_and_option_on_the_front_page_exists() -> None:
    import typer

    from whet.cli import app

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in re.findall(r"\| `whet ([\w-]+)", page):
        assert name in commands
    known = {option for command in commands.values() for one in command.params for option in one.opts}
    lines = [line for line in page.splitlines() if "pip" not in line and "PIP_FLAGS" not in line]
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(lines))) - known == {"--help"}
