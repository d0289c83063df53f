"""A story survives a trip through JSON."""

import json
from dataclasses import replace

from whet.report.html import render_report
from whet.report.story import Story, as_record, from_record

from . import stories


def test_a_story_comes_back_from_json_as_it_was(any_story: Story) -> None:
    assert stories.sane(as_record(any_story))
    back = from_record(json.loads(json.dumps(as_record(any_story))))
    assert back == any_story
    assert render_report(back) == render_report(any_story)


def test_keys_of_a_later_version_are_ignored() -> None:
    record = as_record(stories.story()) | {"a_later_key": 1}
    assert from_record(record) == stories.story()


def test_a_story_of_an_earlier_version_is_read() -> None:
    record = json.loads(json.dumps(as_record(stories.story())))
    del record["interrupted"]
    for one in [*record["rungs"], *record["judgements"][0]["comparisons"]]:
        del one["relative"]
    assert from_record(record) == stories.story()


def test_examples_of_a_test_set_and_of_the_data_are_kept_apart() -> None:
    story = stories.story()
    tested, found = story.example("test", 5), story.example("", 5)
    assert tested is not None
    assert found is not None
    assert tested.text != found.text
    assert replace(story, folder="").path == story.name
