"""A file that is written anew: whole, or as it was."""

from pathlib import Path

import pytest

from whet.atomic import written


def test_a_failed_write_leaves_what_was_there_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with written(path) as beside:
        beside.write_text("first")
        assert not path.exists(), "it has no name before it is whole"
    with pytest.raises(ValueError, match="broke off"), written(path) as beside:  # noqa: PT012 - the write is the point
        beside.write_text("sec")
        raise ValueError("broke off")
    assert [one.name for one in tmp_path.iterdir()] == ["plan.yaml"]
    assert path.read_text() == "first"
