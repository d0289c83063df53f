"""Is a new kind of input one modality, one family and two rows of the catalog? Everything that texts have, grids have.

The members of ``members/grids.py`` are registered as another package would do it, through its entry points.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import whet
from members import grids
from plain import PLAIN
from whet import catalog
from whet.data.fingerprints import input_hashes
from whet.errors import ConfigError, DataError
from whet.modalities.text import Text
from whet.run import learning_rows
from whet.testing import check_backbone, check_modality, tiny_rows

POINTS = "[whet.members]\nmodality.grid = members.grids:Grid\nbackbone.grid-net = members.grids:GridNet\n"
SETTINGS = tuple(line for line in PLAIN if not line.startswith("backbone."))
SIDE = 8
SHORT = (*SETTINGS, "training.epochs=2")
METHODS = ("probe", "top-layers", "full", "gradual", "bias-only", "norm-only", "l2-sp", "reinit", "contrastive")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, where the package of grids is installed."""
    about = tmp_path / "installed" / "grids-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: grids\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(about.parent))
    catalog.registered.cache_clear()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    catalog.registered.cache_clear()


@pytest.fixture
def model(here: Path) -> Path:
    return grids.tiny_grid_model(here / "net")


def written(folder: Path, rows: int = 120) -> Path:
    """A table of grids with stripes, rings and noise, and a number beside each; files of equal content among them."""
    draw = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    listed = []
    for number in range(rows):
        kind, strength = ("across", "down", "none")[number % 3], 1 + number % 5
        waves = np.sin(np.arange(SIDE) * 1.5) * strength
        grid = draw.normal(size=(SIDE, SIDE)) * 0.3
        grid += {"across": waves[None, :], "down": waves[:, None], "none": np.zeros((1, 1))}[kind]
        name = f"files/{number}.npy"
        np.save(folder / name, grid.astype(np.float32)[None])
        listed.append({"file": name, "kind": kind, "strength": float(strength), "tags": f"{kind};{strength % 2}"})
    (folder / "files" / "9.npy").write_bytes((folder / "files" / "6.npy").read_bytes())
    pd.DataFrame(listed).to_csv(folder / "grids.csv", index=False)
    return folder / "grids.csv"


def kinds(table: Path) -> Any:
    return pd.read_csv(table, keep_default_na=False)["kind"].to_numpy()


def tuned(table: Path, model: Path, **wanted: Any) -> whet.Result:
    given: dict[str, Any] = {"method": "probe", "settings": SETTINGS, "out": "run", **wanted}
    return whet.finetune(table, given.pop("target", "kind"), model=model, **given)


def test_the_members_keep_their_contracts(here: Path, model: Path) -> None:
    written(here / "rows")
    values = [(here / "rows" / "files" / f"{number}.npy",) for number in range(5)]
    check_modality(grids.Grid(), model, values, [str(path) for (path,) in values])
    batch = grids.Grid().processor(model, max_length=None, pairs=False)
    check_backbone(grids.GridNet(), model, batch.collate(batch.encode(values).inputs))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_tunes_and_its_model_answers_for_files_arrays_and_rows(
    here: Path, model: Path, method: str
) -> None:
    table = written(here / "rows")
    result = tuned(table, model, method=method, settings=SETTINGS if method == "probe" else SHORT)
    paths = [str(here / "rows" / name) for name in pd.read_csv(table)["file"]]
    answers = result.predict(paths)
    assert set(answers) <= {"across", "down", "none"}
    assert result.predict([np.load(path) for path in paths]) == answers
    whet.api.predict_file("run", table, here / "out.csv")
    assert pd.read_csv(here / "out.csv", keep_default_na=False)["predicted"].tolist() == answers
    assert whet.evaluate("run", table).scores["model"][0].value == np.mean(np.array(answers) == kinds(table))


@pytest.mark.parametrize(("target", "kind"), [("strength", "regression"), ("tags", "multi-label")])
def test_every_task_learns(here: Path, model: Path, target: str, kind: str) -> None:
    result = tuned(written(here / "rows"), model, target=target, settings=(*SETTINGS, f"task.name={kind}"))
    assert len(result.predict([np.zeros((1, SIDE, SIDE), np.float32)])) == 1


def test_checks_and_baselines_are_those_of_the_kind_of_input(here: Path, model: Path) -> None:
    """Files of equal content are one input under two names; no check or baseline of texts is asked."""
    result = tuned(written(here / "rows"), model)
    found = {finding.check: finding for finding in result.story.data.findings}
    assert found["duplicates"].row_ids == (9,)
    assert not {"markup", "lengths"} & set(found)
    assert set(result.story.judgements[0].scores) == {"model", "majority", "frozen-probe"}


def test_the_ladder_climbs_and_what_is_frozen_is_replayed(here: Path, model: Path) -> None:
    result = tuned(written(here / "rows"), model, method="auto", time="20s", settings=SETTINGS)
    assert len(result.story.rungs) > 1
    assert not any("Replay is off" in note for note in result.story.notes)


def test_replayed_and_plain_steps_give_equal_weights(here: Path, model: Path) -> None:
    table = written(here / "rows")
    for name, replay in (("with", "auto"), ("without", "off")):
        tuned(table, model, method="top-layers", out=name, settings=(*SHORT, f"machinery.replay={replay}"))
    one, other = ((here / "work" / name / "model" / "model.safetensors").read_bytes() for name in ("with", "without"))
    assert one == other


def test_settings_of_the_kind_of_input_are_in_the_plan_and_in_the_model(here: Path, model: Path) -> None:
    table = written(here / "rows")
    result = tuned(table, model, settings=(*SETTINGS, "modality.name=grid", "modality.brightness=0.5"))
    grid = [np.full((1, SIDE, SIDE), 0.25, np.float32)]
    again = whet.load("run")
    assert again.columns.modality == grids.Grid(brightness=0.5)
    assert np.array_equal(again.predict_proba(grid), result.predict_proba(grid))
    assert not np.array_equal(again.predict_proba(grid), tuned(table, model, out="usual").predict_proba(grid))


def test_a_run_goes_on_from_one_of_grids(here: Path, model: Path) -> None:
    table = written(here / "rows")
    tuned(table, model)
    result = tuned(table, here / "work" / "run", out="second")
    assert "earlier" in result.story.judgements[0].scores


def elsewhere(folder: Path) -> Path:
    """Other grids under the names of ``written``, each of the next kind, and the same table."""
    table = written(folder)
    listed = pd.read_csv(table, keep_default_na=False)
    kept = [np.load(folder / name) for name in listed["file"]]
    for name, grid in zip(listed["file"], [*kept[1:], kept[0]], strict=True):
        np.save(folder / name, grid + np.float32(0.125))
    listed["kind"] = [*listed["kind"][1:], listed["kind"][0]]
    listed.to_csv(table, index=False)
    return table


def test_validation_files_of_another_folder_are_learnt_from_there(here: Path, model: Path) -> None:
    table, other = written(here / "rows"), elsewhere(here / "valid")
    prepared = whet.plan(table, "kind", model=model, valid=other, method="top-layers", settings=SHORT)
    train, valid = prepared.split.train, prepared.split.valid
    assert valid is not None
    rows, targets, _ = learning_rows(prepared)
    own = [input_hashes(part, prepared.columns) for part in (train, valid)]
    assert np.array_equal(input_hashes(rows, prepared.columns), np.concatenate(own))
    assert len(targets) == len(rows)
    result = tuned(table, model, valid=other)
    assert "frozen-probe" in result.story.judgements[0].scores


def test_rehearsed_files_are_those_of_the_folder_of_their_run(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)  # so that names from here are tried too
    written(here / "rows")
    tuned(Path("rows/grids.csv"), model, out="first")
    past = whet.plan(plan="first/plan.yaml")
    other = elsewhere(here / "more")
    again: dict[str, Any] = {"model": "first", "rehearse": ("first", 1.0), "settings": SETTINGS}
    mixed = whet.plan(other, "kind", **again, method="probe")
    alone = whet.plan(other, "kind", model=model, settings=SETTINGS, method="probe")
    hashes = input_hashes(mixed.split.train, mixed.columns)
    many = len(alone.split.train)
    assert np.array_equal(hashes[:many], input_hashes(alone.split.train, alone.columns))
    assert set(hashes[many:]) <= set(input_hashes(past.split.train, past.columns))
    assert len(hashes) - many > 50
    result = whet.finetune(other, "kind", **again, method="top-layers", out="second")
    assert list(result.verdicts) == ["test", "test of first"]


def test_without_a_model_it_is_said_that_none_comes_along(here: Path) -> None:
    with pytest.raises(ConfigError, match="none for grids comes along"):
        whet.finetune(written(here / "rows"), "kind")


def test_what_does_not_fit_grids_is_refused(here: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="Grids have no windows"):
        tuned(written(here / "rows"), model, max_length=64)


def test_a_missing_file_and_a_grid_of_another_size_are_named(here: Path, model: Path) -> None:
    table = written(here / "rows")
    (here / "rows" / "files" / "17.npy").unlink()
    with pytest.raises(DataError, match=r"no file 'files/17\.npy'"):
        tuned(table, model)
    np.save(here / "rows" / "files" / "17.npy", np.zeros((1, 3, 3)))
    with pytest.raises(DataError, match=r"shape \(1, 3, 3\)"):
        tuned(table, model)
    assert not (here / "work" / "run").exists()


def test_one_value_without_a_list_and_a_row_without_one_are_refused(here: Path, model: Path) -> None:
    table = written(here / "rows")
    result = tuned(table, model)
    for one in (str(here / "rows" / "files" / "0.npy"), here / "rows" / "files" / "0.npy", np.zeros((1, SIDE, SIDE))):
        with pytest.raises(DataError, match="A list of grids is needed, got one grid"):
            result.predict(one)
    (here / "rows" / "new.csv").write_text("file,kind\nfiles/0.npy,\n,across\n")
    with pytest.raises(DataError, match="The row has no grid") as caught:
        whet.api.predict_file("run", here / "rows" / "new.csv", here / "out.csv")
    assert "row 2" in caught.value.where
    assert not (here / "out.csv").exists()


def test_a_plan_is_of_what_the_files_held(here: Path, model: Path) -> None:
    table = written(here / "rows")
    whet.plan(table, "kind", model=model, method="probe", settings=SETTINGS).plan.write(here / "plan.yaml")
    whet.finetune(plan=here / "plan.yaml", out="same")
    np.save(here / "rows" / "files" / "5.npy", np.zeros((1, SIDE, SIDE), np.float32))
    with pytest.raises(DataError, match="rows are not those of the plan"):
        whet.finetune(plan=here / "plan.yaml", out="other")


def test_text_is_still_text_where_grids_are_installed(here: Path, tiny_model: Path) -> None:
    rows = tiny_rows("classification", 60)[0].table.to_pylist()
    assert isinstance(whet.check(rows, "target").columns.modality, Text)


def test_the_command_line_tunes_inspects_and_answers(here: Path, model: Path) -> None:
    table = written(here / "rows")

    def ran(*words: str) -> str:
        places = [str(here / "installed"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", "whet", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    settings = [word for line in SETTINGS for word in ("--set", line)]
    named = ["--model", str(model)]
    ran("finetune", str(table), "--target", "kind", *named, "--method", "top-layers", "--out", "run", *settings)
    assert "before block 2 of 3" in ran("inspect", str(model), "--data", str(table), "--target", "kind")
    assert ran("predict", "run", str(here / "rows" / "files" / "0.npy")).split()[0] in ("across", "down", "none")
