"""Laws of a run that goes on from an earlier one: where it starts, whose rows it sees, what its verdict says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import whet
from plain import PLAIN
from whet import api
from whet.data.fingerprints import input_hashes
from whet.data.targets import opens
from whet.deploy.predictor import Predictor, run
from whet.earlier import find_run
from whet.errors import ConfigError, DataError, ModelError, RunError
from whet.modalities.text import Text
from whet.plan import Plan
from whet.testing import tiny_rows

TUNED = (*PLAIN, "training.epochs=2", "training.learning_rate=3e-3")
TEXTS = ["my password is locked", "refund the invoice", "the parcel is late", "price", "", "charge again now"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write(path: Path, kind: Any, rows: int, *, seed: int, labels: tuple[str, ...] = (), **renamed: str) -> Path:
    """Rows as JSON lines; with ``labels`` those of these classes alone."""
    found = tiny_rows(kind, rows, seed=seed)[0].table.to_pylist()
    kept = [row for row in found if not labels or row["target"] in labels]
    lines = [json.dumps({renamed.get(name, name): value for name, value in row.items()}) for row in kept]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


LABELS = ("access", "billing", "shipping", "urgent")


def several(path: Path, rows: int, *, seed: int, form: str | tuple[str, ...] = "list") -> Path:
    """Rows of any number of labels: as lists, as texts with a separator, or as the 0/1 columns that are named."""
    lines = []
    for row in tiny_rows("multi-label", rows, seed=seed)[0].table.to_pylist():
        labels = row["target"] or ["urgent"]  # an empty text would be no target
        written: dict[str, Any]
        if form == "list":
            written = {"target": labels}
        elif isinstance(form, str):
            written = {"target": form.join(labels)}
        else:
            written = {name: int(name in labels) for name in form}
        lines.append(json.dumps({"text": row["text"], **written}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


OLD = ("access", "shipping")
"""The third class, billing, comes later, and stands between them in natural order."""


@pytest.fixture(scope="module")
def first(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned run of two classes; nothing below writes to it."""
    place = tmp_path_factory.mktemp("earlier")
    rows = write(place / "first.jsonl", "classification", 150, seed=0, labels=OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        api.finetune(rows, "target", model=tiny_model, method="top-layers", settings=TUNED, out=place / "first")
    return place / "first"


def planned(rows: Any, model: Path, **more: Any) -> Any:
    return api.plan(rows, more.pop("target", "target"), model=model, **{"method": "probe", "settings": PLAIN, **more})


def start_of(prepared: Any) -> Any:
    """Outputs of the model that the run starts with, for the texts."""
    model = prepared.pretrained.load(prepared.task.outputs(prepared.state)).model
    pairs = [(text,) for text in TEXTS]
    return run(
        model.eval(),
        Text().processor(prepared.pretrained.folder / inner(prepared), max_length=None, pairs=False),
        pairs,
    )


def inner(prepared: Any) -> str:
    return "0_Transformer" if (prepared.pretrained.folder / "0_Transformer").exists() else "."


@pytest.mark.parametrize("head", ["pooled", "native"])
@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_with_the_same_labels_the_start_answers_as_the_run_does(
    kind: str, head: str, here: Path, tiny_model: Path
) -> None:
    rows = write(here / "rows.jsonl", kind, 90, seed=0)
    settings = (*TUNED, "training.epochs=1")
    api.finetune(rows, "target", model=tiny_model, method="top-layers", settings=settings, head=head, out="first")
    again = planned(write(here / "new.jsonl", kind, 60, seed=1), here / "first")
    assert again.plan.backbone.head == head
    earlier = Predictor.load(here / "first")
    before = earlier.task.decode(earlier.outputs([(text,) for text in TEXTS]), np.arange(len(TEXTS)), earlier.state)
    after = again.task.decode(start_of(again), np.arange(len(TEXTS)), again.state)
    assert after.labels == before.labels
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-4, atol=1e-4)
    if kind == "multi-label":
        assert again.state["thresholds"] == earlier.state["thresholds"]


def test_new_classes_leave_the_ratios_of_the_old_ones_as_they_were(here: Path, first: Path) -> None:
    prepared = planned(write(here / "new.jsonl", "classification", 90, seed=1), first)
    assert prepared.state["labels"] == ["access", "billing", "shipping"]
    outputs = torch.from_numpy(start_of(prepared)).double()
    before = torch.from_numpy(Predictor.load(first).outputs([(text,) for text in TEXTS])).double()
    ratio = outputs.softmax(1)[:, 0] / outputs.softmax(1)[:, 2]
    torch.testing.assert_close(ratio, before.softmax(1)[:, 0] / before.softmax(1)[:, 1], rtol=1e-4, atol=1e-6)
    assert "2 classes and 1 new" in prepared.plan.brief()["earlier"]


def test_a_continued_model_goes_on_answering_classes_that_have_no_row(here: Path, first: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1, labels=("billing", "access"))
    result = api.finetune(new, "target", model=first, method="probe", settings=PLAIN, out="second")
    assert result.predictor.labels == ("access", "billing", "shipping")
    chance = result.predict_proba(tiny_rows("classification", 90, seed=4)[0].values("text"))[:, 1:]
    assert (chance.min(axis=0) > 1e-3).all()  # a head solved without the class leaves it next to nothing
    said = [finding.message for finding in result.story.data.findings if finding.check == "earlier"]
    assert any("1 of the 2 classes" in message and "'shipping'" in message for message in said)


def test_the_verdict_compares_with_the_earlier_model_on_both_test_sets(here: Path, first: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    before = opens()
    result = api.finetune(
        new, "target", model=first, rehearse=(first, 0.3), method="top-layers", settings=TUNED, out="second"
    )
    assert opens() - before == 2
    assert list(result.verdicts) == ["test", "test of first"]
    fresh, old = result.judgements
    assert {"earlier", "majority"} <= set(fresh.scores)
    assert any("a class that the earlier model does not know" in note for note in fresh.notes)
    assert old.verdict.answer in ("better", "not worse", "forgets", "cannot tell")
    assert old.verdict.answer == "better" or old.verdict.against == "earlier"
    assert "earlier model" in old.verdict.sentence
    for page in ("report.html", "README.md"):
        text = (here / "second" / page).read_text(encoding="utf-8")
        assert "earlier model" in text
        assert "test of first" in text
    assert "Fine-tuned from the run first, which began with" in (here / "second" / "README.md").read_text()
    assert whet.evaluate("second", new).metric == fresh.metric


def test_a_plan_taken_for_an_earlier_model_compares_with_it_and_one_taken_from_it_does_not(
    here: Path, first: Path, tiny_model: Path
) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    planned(new, tiny_model).plan.write(here / "plan.yaml")
    plain = Plan.read(here / "plan.yaml").evaluation.baselines
    onto = api.plan(plan="plan.yaml", model=first)
    assert onto.plan.evaluation.baselines == planned(new, first).plan.evaluation.baselines != plain
    onto.plan.write(here / "onto.yaml")
    assert api.plan(plan="onto.yaml", model=tiny_model).plan.evaluation.baselines == plain
    assert "earlier" in api.plan(plan="onto.yaml", seed=1).plan.evaluation.baselines
    few = ["evaluation.baselines=[majority]"]
    assert api.plan(plan="plan.yaml", model=first, settings=few).plan.evaluation.baselines == ("majority",)


def test_the_earlier_run_is_judged_on_its_rows_as_it_was_then(here: Path, first: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    result = api.finetune(new, "target", model=first, method="probe", settings=PLAIN, out="second")
    then = json.loads((first / "metrics.json").read_text())["test"]["scores"]["model"]
    now = {score.metric: score.value for score in result.judgements[1].scores["earlier"]}
    assert now["accuracy"] == pytest.approx({one["metric"]: one["value"] for one in then}["accuracy"])


def test_rehearsed_rows_are_a_share_of_every_class_and_no_test_row_is_among_them(here: Path, first: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    alone, mixed = planned(new, first), planned(new, first, rehearse=(first, 0.3))
    past = api.prepare(Plan.read(first / "plan.yaml").as_dict(), api.Objects(), here / "scratch")
    count = {name: past.state["counts"][past.state["labels"].index(name)] for name in OLD}
    added = np.array(mixed.state["counts"]) - np.array(alone.state["counts"])
    wanted = {name: int(np.ceil(0.3 * count[name])) for name in OLD}
    assert dict(zip(mixed.state["labels"], added, strict=True)) == {**wanted, "billing": 0}
    train = input_hashes(mixed.split.train, mixed.columns)
    for test in mixed.split.tests.values():
        shared = np.isin(input_hashes(test.rows, mixed.columns), train)
        assert set(test.rows.ids[shared]) <= set(test.leaked)
    assert not np.isin(input_hashes(mixed.split.tests["test"].rows, mixed.columns), train).any()
    old = mixed.split.tests["test of first"]
    drawn = train[len(alone.split.train) :]
    assert len(drawn) == sum(wanted.values())
    assert not np.isin(input_hashes(old.rows, mixed.columns), drawn).any()
    again = planned(new, first, rehearse=(first, 0.3))
    assert np.array_equal(input_hashes(again.split.train, again.columns), train)


def test_all_rows_can_be_rehearsed_and_none_comes_twice(here: Path, first: Path) -> None:
    past = Plan.read(first / "plan.yaml")
    mixed = planned(Path(past.data.source), first, rehearse=(first, 1.0))
    assert mixed.plan.earlier.words == "a head of 2 classes"
    assert any("No row of first is rehearsed" in one.message for one in mixed.findings)
    leaked = [one.message for one in mixed.findings if one.check == "leakage" and "first" in one.message]
    assert leaked == []  # the same rows under the same seed are held out again


def test_new_test_rows_that_the_earlier_run_learnt_from_are_said(here: Path, first: Path) -> None:
    past = Path(Plan.read(first / "plan.yaml").data.source)
    mixed = planned(past, first, seed=5)
    assert any("that first learnt from" in one.message for one in mixed.findings)
    assert any("also in the new train" in one.message for one in mixed.findings)
    assert len(mixed.split.tests["test"].leaked)


def test_columns_may_have_other_names_and_labels_another_type(here: Path, tiny_model: Path) -> None:
    coded = {"access": 1, "billing": 2, "shipping": 3}
    for name, seed, columns, made in (("a", 0, ("text", "target"), int), ("b", 1, ("words", "class"), str)):
        rows = tiny_rows("classification", 90, seed=seed)[0].table.to_pylist()
        lines = [json.dumps({columns[0]: row["text"], columns[1]: made(coded[row["target"]])}) for row in rows]
        (here / f"{name}.jsonl").write_text("\n".join(lines))
    named = (*PLAIN, "task.name=classification")
    api.finetune("a.jsonl", "target", model=tiny_model, method="probe", settings=named, out="first")
    result = api.finetune(
        "b.jsonl", "class", model="first", rehearse=("first", 0.5), method="probe", settings=PLAIN, out="second"
    )
    assert result.predictor.labels == ("1", "2", "3")
    assert "rehearsed" in result.story.plan["earlier"]["words"]
    assert list(result.verdicts) == ["test", "test of first"]


def test_the_number_of_a_regression_keeps_its_unit(here: Path, tiny_model: Path) -> None:
    rows = write(here / "a.jsonl", "regression", 90, seed=0)
    api.finetune(rows, "target", model=tiny_model, method="probe", settings=PLAIN, out="first")
    new = write(here / "b.jsonl", "regression", 90, seed=1)
    lines = [json.loads(line) for line in new.read_text().splitlines()]
    new.write_text("\n".join(json.dumps({**line, "target": 100 + 3 * line["target"]}) for line in lines))
    result = api.finetune(
        new, "target", model="first", rehearse=("first", 0.2), method="top-layers", settings=TUNED, out="second"
    )
    assert result.judgements[1].test == "test of first"
    assert result.judgements[0].scores["model"][0].value < result.judgements[0].scores["earlier"][0].value


def test_several_labels_grow_and_are_rehearsed(here: Path, tiny_model: Path) -> None:
    rows = write(here / "a.jsonl", "multi-label", 90, seed=0)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    few = [{**line, "target": [label for label in line["target"] if label != "urgent"]} for line in lines]
    rows.write_text("\n".join(json.dumps(line) for line in few))
    api.finetune(rows, "target", model=tiny_model, method="probe", settings=PLAIN, out="first")
    new = write(here / "b.jsonl", "multi-label", 90, seed=1)
    result = api.finetune(
        new, "target", model="first", rehearse=("first", 0.2), method="probe", settings=PLAIN, out="second"
    )
    assert result.predictor.labels == ("access", "billing", "shipping", "urgent")
    assert result.judgements[1].scores["earlier"][0].value > 0.3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LABELS, LABELS[::-1]),
        (LABELS, (*LABELS, "extra")),
        (LABELS, "list"),
        ("list", LABELS),
        (";", "|"),
        (";", "list"),
        ("list", ";"),
        (";", LABELS),
    ],
    ids=str,
)
def test_old_test_rows_are_read_as_the_run_that_held_them_out_wrote_them(
    here: Path, tiny_model: Path, old: Any, new: Any
) -> None:
    several(here / "a.jsonl", 90, seed=0, form=old)
    made: dict[str, Any] = {"method": "probe", "settings": PLAIN}
    first = api.finetune("a.jsonl", columns_of(old), model=tiny_model, out="first", **made)
    several(here / "b.jsonl", 60, seed=1, form=new)
    if "extra" in columns_of(new):
        lines = [json.loads(line) for line in (here / "b.jsonl").read_text().splitlines()]
        varied = [{**line, "extra": number % 2} for number, line in enumerate(lines)]
        (here / "b.jsonl").write_text("\n".join(map(json.dumps, varied)))
    second = api.finetune("b.jsonl", columns_of(new), model="first", out="second", **made)
    assert answered(second.folder, "test of first") == answered(first.folder, "test")
    then = {score.metric: score.value for score in first.judgements[0].scores["model"]}
    now = {score.metric: score.value for score in second.judgements[1].scores["earlier"]}
    same = {"micro-f1", "exact-match"} if "extra" in columns_of(new) else set(then)  # others count the labels
    assert {name: now[name] for name in same} == pytest.approx({name: then[name] for name in same})


@pytest.mark.parametrize(("old", "new"), [(";", "|"), ("list", "|"), (";", "list"), ("list", ";")])
def test_rehearsed_labels_are_written_as_the_new_rows_write_theirs(
    here: Path, tiny_model: Path, old: str, new: str
) -> None:
    several(here / "a.jsonl", 90, seed=0, form=old)
    api.finetune("a.jsonl", "target", model=tiny_model, method="probe", settings=PLAIN, out="first")
    several(here / "b.jsonl", 60, seed=1, form=new)
    alone, mixed = (planned("b.jsonl", tiny_model, rehearse=given) for given in (None, (here / "first", 1.0)))
    assert mixed.state["labels"] == list(LABELS)
    assert mixed.state["form"] == alone.state["form"]
    many = len(alone.split.train)
    drawn = mixed.split.train.select(np.arange(many, len(mixed.split.train)))
    own = {row["text"]: set(row["target"] or ["urgent"]) for row in tiny_rows("multi-label", 90)[0].table.to_pylist()}
    wanted = [[float(name in own[text]) for name in LABELS] for text in drawn.values("text")]
    assert mixed.task.encode_targets(drawn, mixed.columns, mixed.state).tolist() == wanted
    assert len(drawn) > 40


def test_rehearsed_labels_that_a_text_cannot_hold_are_refused_with_what_to_write(here: Path, tiny_model: Path) -> None:
    """Or that would make another separator of the new rows' own."""
    rows = [json.loads(line) for line in several(here / "a.jsonl", 90, seed=0).read_text().splitlines()]
    for number, (held, form) in enumerate((("ask|{}", "|"), ("{};ask", "|"), (" {}", ";"))):
        named = [{**row, "target": [held.format(one) for one in row["target"]]} for row in rows]
        (here / "a.jsonl").write_text("\n".join(map(json.dumps, named)))
        api.finetune("a.jsonl", "target", model=tiny_model, method="probe", settings=PLAIN, out=f"run{number}")
        several(here / "b.jsonl", 60, seed=1, form=form)
        with pytest.raises(ConfigError, match="cannot be written in one text") as caught:
            planned("b.jsonl", tiny_model, rehearse=(here / f"run{number}", 1.0))
        assert "lists of labels" in str(caught.value)


def test_lists_of_numbers_and_of_texts_are_rehearsed_together(here: Path, tiny_model: Path) -> None:
    coded: dict[str, Any] = {name: number for number, name in enumerate(LABELS)}
    for name, made in (("a", int), ("b", str)):
        rows = [json.loads(line) for line in several(here / "x.jsonl", 90, seed=ord(name)).read_text().splitlines()]
        written = [{**row, "target": [made(coded[one]) for one in row["target"]]} for row in rows]
        (here / f"{name}.jsonl").write_text("\n".join(map(json.dumps, written)))
        api.finetune(f"{name}.jsonl", "target", model=tiny_model, method="probe", settings=PLAIN, out=f"of {name}")
    for new, old in (("a", "of b"), ("b", "of a")):
        mixed = planned(f"{new}.jsonl", tiny_model, rehearse=(here / old, 1.0))
        assert mixed.state["labels"] == ["0", "1", "2", "3"]


def test_a_chain_of_runs_reads_the_test_rows_of_each_as_they_were_written(here: Path, tiny_model: Path) -> None:
    made: dict[str, Any] = {"method": "probe", "settings": PLAIN}
    runs, model = list[Any](), tiny_model
    for name, seed, form in (("A", 0, ";"), ("B", 1, LABELS), ("C", 2, "|")):
        several(here / f"{name}.jsonl", 60, seed=seed, form=form)
        runs.append(api.finetune(f"{name}.jsonl", columns_of(form), model=model, out=name, **made))
        model = here / name
    assert [one.test for one in runs[2].judgements] == ["test", "test of B", "test of A"]
    assert answered(here / "C", "test of A") == answered(here / "A", "test")
    assert answered(here / "C", "test of B") == answered(here / "B", "test")


def columns_of(form: str | tuple[str, ...]) -> list[str]:
    """The target columns of ``several`` in this form."""
    return list(form) if isinstance(form, tuple) else ["target"]


def answered(folder: Path, test: str) -> dict[int, list[str]]:
    """The targets of a test set by row, as a run read them."""
    listed = pq.read_table(folder / "predictions.parquet").to_pylist()
    return {row["row"]: sorted(row["target"]) for row in listed if row["test"] == test}


def test_a_third_run_goes_on_from_the_second_with_the_rows_of_both(here: Path, first: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    api.finetune(new, "target", model=first, rehearse=(first, 0.3), method="probe", settings=PLAIN, out="second")
    third = planned(write(here / "more.jsonl", "classification", 90, seed=2), here / "second", rehearse=("second", 1.0))
    assert list(third.split.tests) == ["test", "test of second", "test of first"]
    second = api.prepare(Plan.read(here / "second" / "plan.yaml").as_dict(), api.Objects(), here / "scratch")
    own = planned(here / "more.jsonl", here / "second")
    assert len(third.split.train) - len(own.split.train) >= 0.9 * len(second.split.train)


def test_test_rows_that_a_run_before_the_earlier_one_learnt_from_are_said_or_that_it_is_gone(
    here: Path, tiny_model: Path
) -> None:
    a = write(here / "a.jsonl", "classification", 90, seed=0)
    b = write(here / "b.jsonl", "classification", 90, seed=1)
    made = {"method": "probe", "settings": PLAIN}
    api.finetune(a, "target", model=tiny_model, out="A", **made)
    api.finetune(b, "target", model="A", out="B", **made)

    def again() -> Any:
        return planned(a, here / "B", seed=9)

    def gaps(prepared: Any) -> list[str]:
        return [one.message for one in prepared.findings if one.check == "earlier" and "not known" in one.message]

    first, second = planned(a, here / "A", seed=9), again()
    learnt = set(first.split.tests["test"].leaked)
    assert learnt
    assert learnt <= set(second.split.tests["test"].leaked)
    assert any("that A learnt from" in one.message for one in second.findings)
    assert gaps(second) == []
    (here / "a.jsonl").rename(here / "kept.jsonl")
    a = here / "kept.jsonl"
    assert any("of A" in message for message in gaps(again()))
    a.rename(here / "a.jsonl")
    a = here / "a.jsonl"
    (here / "A").rename(here / "moved")
    assert any("The run A is gone" in message for message in gaps(again()))


def test_the_same_plan_gives_the_same_bytes_and_resume_refuses_another_earlier_model(here: Path, first: Path) -> None:
    shutil.copytree(first, here / "first")
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    wanted: dict[str, Any] = {"model": "first", "rehearse": ("first", 0.3), "method": "top-layers"}
    steps = (*TUNED, "machinery.checkpoint_seconds=0")
    api.finetune(new, "target", **wanted, settings=steps, out="one")

    class Killed(BaseException):
        pass

    def stop(event: Any) -> None:
        if type(event).__name__ == "Stepped" and event.step == 3:
            raise Killed

    with pytest.raises(Killed):
        api.finetune(new, "target", **wanted, settings=steps, out="two", observers=[stop])
    record = here / "first" / "model" / "whet.json"
    kept = record.read_text()
    record.write_text(kept.replace('"access"', '"excess"'))
    with pytest.raises(ModelError, match=r"not that of the plan"):
        api.finetune(new, "target", **wanted, settings=steps, out="two", resume=True)
    record.write_text(kept)
    api.finetune(new, "target", **wanted, settings=steps, out="two", resume=True)
    for name in ("model/0_Transformer/model.safetensors", "predictions.parquet", "metrics.json"):
        assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()
    api.finetune(plan=here / "one" / "plan.yaml", out="three")
    assert (here / "one" / "metrics.json").read_bytes() == (here / "three" / "metrics.json").read_bytes()


def test_without_the_old_file_it_is_said_and_rehearsal_is_refused(here: Path, first: Path) -> None:
    shutil.copytree(first, here / "first")
    plan = Plan.read(here / "first" / "plan.yaml")
    replace(plan, data=replace(plan.data, source="gone.jsonl")).write(here / "first" / "plan.yaml")
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    prepared = planned(new, here / "first")
    assert list(prepared.split.tests) == ["test"]
    assert any("forgetting would not show" in one.message for one in prepared.findings)
    with pytest.raises(DataError, match="not there any more"):
        planned(new, here / "first", rehearse=(here / "first", 0.2))
    write(here / "gone.jsonl", "classification", 90, seed=4)
    with pytest.raises(DataError, match="have changed"):
        planned(new, here / "first", rehearse=(here / "first", 0.2))


def grouped(path: Path, kind: Any, rows: int, *, seed: int, groups: int = 20, name: str = "who") -> Path:
    """Rows of so many customers; the first of them is nobody's."""
    lines = [json.loads(line) for line in write(path, kind, rows, seed=seed).read_text().splitlines()]
    named = [{**line, name: f"c{number % groups}" if number else None} for number, line in enumerate(lines)]
    path.write_text("\n".join(map(json.dumps, named)))
    return path


@pytest.mark.parametrize("seed", [0, 1])
def test_no_group_that_is_held_out_is_rehearsed(here: Path, tiny_model: Path, seed: int) -> None:
    old, new = (grouped(here / f"{n}.jsonl", "classification", 150, seed=n, name=("who", "client")[n]) for n in (0, 1))
    made: dict[str, Any] = {"method": "top-layers", "settings": TUNED}  # which needs validation rows
    api.finetune(old, "target", group="who", model=tiny_model, method="probe", settings=PLAIN, out="first")
    alone, mixed = (
        planned(new, tiny_model, group="client", seed=seed, rehearse=given, **made)
        for given in (None, (here / "first", 1.0))
    )
    many = len(alone.split.train)
    learnt = set(mixed.split.train.values("client")) - {None}
    assert mixed.split.valid is not None
    for held in (mixed.split.valid, mixed.split.tests["test"].rows):
        assert not learnt & set(held.values("client"))
    assert len(mixed.split.train) > many + 10
    assert mixed.split.train.values("client")[:many] == alone.split.train.values("client")
    assert "none of a group that is held out" in mixed.split.how
    lone = planned(write(here / "c.jsonl", "classification", 90, seed=3), tiny_model, rehearse=(here / "first", 1.0))
    assert "held out" not in lone.split.how.split("Train has")[1]


def test_test_rows_of_groups_that_the_earlier_model_learnt_from_are_counted(here: Path, tiny_model: Path) -> None:
    old, new = (grouped(here / f"{n}.jsonl", "classification", 150, seed=n) for n in (0, 1))
    api.finetune(old, "target", group="who", model=tiny_model, method="probe", settings=PLAIN, out="first")
    prepared = planned(new, here / "first", group="who", seed=1)
    past = api.prepare(Plan.read(here / "first" / "plan.yaml").as_dict(), api.Objects(), here / "scratch")
    learnt, ours = ({*one.split.train.values("who"), None} - {None} for one in (past, prepared))
    for name, known, what in (
        ("test", learnt, "that first learnt from"),
        ("test of first", ours, "that is also in the new train"),
    ):
        who = (prepared if name == "test" else past).split.tests["test"].rows.values("who")
        many = sum(one in known for one in who)
        assert many
        said = [one for one in prepared.findings if f"rows of {name} have a group {what}" in one.message]
        assert [one.count for one in said] == [many]
        assert said[0].message.startswith(f"{many} of {len(who)} rows")
    same = planned(old, here / "first", group="who")
    assert not [one.message for one in same.findings if "have a group" in one.message]  # held out again


def test_rows_can_be_rehearsed_without_going_on_from_their_run(here: Path, first: Path, tiny_model: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1, labels=("billing", "access"))
    prepared = planned(new, tiny_model, rehearse=(first, 0.5))
    assert prepared.state["labels"] == ["access", "billing", "shipping"]
    assert list(prepared.split.tests) == ["test"]
    assert "earlier" not in prepared.plan.evaluation.baselines


def test_test_rows_of_classes_that_are_rehearsed_are_known(here: Path, first: Path, tiny_model: Path) -> None:
    new = write(here / "new.jsonl", "classification", 90, seed=1, labels=("billing", "access"))
    for classes in (("shipping",), ("shipping", "access")):
        test = write(here / "test.jsonl", "classification", 60, seed=6, labels=classes)
        prepared = planned(new, tiny_model, rehearse=(first, 0.5), test=test)
        assert not [one.message for one in prepared.findings if "that train lacks" in one.message]
    unlike = [json.loads(line) | {"target": "praise"} for line in test.read_text().splitlines()]
    test.write_text("\n".join(map(json.dumps, unlike)))
    with pytest.raises(DataError, match="None of the classes of test is known from training"):
        planned(new, tiny_model, rehearse=(first, 0.5), test=test)


def test_classes_that_no_row_of_the_rehearsed_run_has_are_not_known(here: Path, first: Path, tiny_model: Path) -> None:
    """Its model answers them, for it went on from another run, but its rows teach nothing of them."""
    new = write(here / "new.jsonl", "classification", 90, seed=1, labels=("billing", "access"))
    api.finetune(new, "target", model=first, method="probe", settings=PLAIN, out="second")
    more = write(here / "more.jsonl", "classification", 90, seed=2, labels=("billing", "access"))
    test = write(here / "test.jsonl", "classification", 60, seed=6, labels=("shipping", "access"))
    prepared = planned(more, tiny_model, rehearse=(here / "second", 0.5), test=test)
    assert [one for one in prepared.findings if "that train lacks: 'shipping" in one.message]


def test_what_cannot_go_on_is_refused_with_the_reason(here: Path, first: Path, tiny_model: Path) -> None:
    numbers = write(here / "numbers.jsonl", "regression", 90, seed=1)
    with pytest.raises(ConfigError, match="is a classification, and the target 'target' is taken for a regression"):
        planned(numbers, first)
    new = write(here / "new.jsonl", "classification", 90, seed=1)
    with pytest.raises(ConfigError, match="nothing to teach"):
        planned(numbers, tiny_model, rehearse=(first, 0.2))
    pairs = tiny_rows("classification", 90, pairs=True)[0].table.to_pylist()
    with pytest.raises(ConfigError, match="reads 1 text a row"):
        planned(pairs, first, text=["text", "other"])
    with pytest.raises(ConfigError, match="has the head 'pooled'"):
        planned(new, first, head="native")
    with pytest.raises(ConfigError, match="There is no run"):
        planned(new, first, rehearse=(here / "nothing", 0.2))
    shutil.copytree(first / "model", here / "alone")
    with pytest.raises(ConfigError, match="only a model"):
        planned(new, first, rehearse=(here / "alone", 0.2))
    for share in (0.0, 1.5, "much"):
        with pytest.raises(ConfigError, match="share of rows to rehearse"):
            planned(new, first, rehearse=(first, share))
    (here / "broken").mkdir()
    shutil.copy(first / "plan.yaml", here / "broken")
    with pytest.raises(RunError, match="no finished run"):
        planned(new, here / "broken")


def test_one_column_is_no_run_of_several_and_the_other_way_round(here: Path, tiny_model: Path) -> None:
    made = {"model": tiny_model, "method": "probe", "settings": PLAIN}
    api.finetune(several(here / "a.jsonl", 60, seed=0, form=LABELS), LABELS, out="columns", **made)
    lines = [json.loads(line) for line in (here / "a.jsonl").read_text().splitlines()]
    words = [{**line, "again": "yes" if line["urgent"] else "no"} for line in lines]
    (here / "b.jsonl").write_text("\n".join(map(json.dumps, words)))
    with pytest.raises(ConfigError, match="is a multi-label, and the target 'again' is taken for a classification"):
        planned(here / "b.jsonl", here / "columns", target="again")
    api.finetune(here / "a.jsonl", "urgent", out="one", settings=(*PLAIN, "task.name=classification"), model=tiny_model,
                 method="probe")  # fmt: skip
    with pytest.raises(ConfigError, match="is a classification, and the target 'urgent', 'billing' is taken for a mu"):
        planned(here / "a.jsonl", here / "one", target=["urgent", "billing"])


def test_a_model_folder_alone_goes_on_too(here: Path, first: Path) -> None:
    shutil.copytree(first / "model", here / "alone")
    prepared = planned(write(here / "new.jsonl", "classification", 90, seed=1), here / "alone")
    assert prepared.plan.model.origin == "run"
    assert prepared.state["labels"] == ["access", "billing", "shipping"]
    assert find_run(here / "alone") is not None
    assert list(prepared.split.tests) == ["test"]
    inside = planned(here / "new.jsonl", first / "model")
    assert inside.plan.earlier.run == str(first.resolve())
