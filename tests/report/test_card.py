"""Laws of the model card: its header is YAML that the hub accepts, and no label writes Markdown."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from whet.report.card import markdown, render_card
from whet.report.story import ModelFacts, Story

from . import stories

NASTY = 'key: value\n---\n# head <script>x</script> | ` ``` [a](b) "\x85\u2028\ufeff🎉'


def header(card: str) -> dict[str, Any]:
    _, top, _ = card.split("---\n", 2)
    found = yaml.safe_load(top)
    assert isinstance(found, dict)
    return found


def test_the_header_has_what_the_hub_reads(any_story: Story) -> None:
    found = header(render_card(any_story))
    assert found["license"] == "apache-2.0"
    assert found["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert found["pipeline_tag"] == "text-classification"
    assert "language" not in found
    results = found.get("model-index", [{"results": []}])[0]["results"]
    assert len(results) == len(any_story.judgements)
    for result in results:
        assert result["dataset"]["type"]
        assert all(isinstance(metric["value"], float) for metric in result["metrics"])


def test_the_hub_library_reads_the_scores_back() -> None:
    cards = pytest.importorskip("huggingface_hub")
    data = cards.ModelCard(render_card(stories.two_tests())).data
    assert data.model_name == "tickets-intent-0001"
    assert [one.metric_type for one in data.eval_results][:2] == ["accuracy", "f1"]


@given(text=st.text(max_size=40))
@example(text=NASTY)
def test_no_text_of_a_user_adds_a_key_to_the_header(text: str) -> None:
    found = header(render_card(stories.named(text)))
    known = {"license", "license_name", "base_model", "library_name", "pipeline_tag", "tags", "model-index"}
    assert set(found) <= known
    assert len(found["model-index"][0]["results"]) == 1


@given(text=st.text(max_size=60))
@example(text=NASTY)
def test_escaped_text_is_one_line_without_markup(text: str) -> None:
    safe = markdown(text)
    assert "\n" not in safe
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[`|\[\]*_]", safe)


def test_an_unknown_licence_is_left_out_and_an_unusual_one_is_named() -> None:
    assert "license" not in header(render_card(stories.story(model=ModelFacts(name="/a/folder"))))
    found = header(render_card(stories.story(model=ModelFacts(name="a folder", licence="Our own: v2"))))
    assert found["license"] == "other"
    assert found["license_name"] == "Our own: v2"
    assert "base_model" not in found


def test_a_code_block_cannot_be_closed_from_inside() -> None:
    card = render_card(stories.story(folder="a```b"))
    assert "````sh\n" in card
