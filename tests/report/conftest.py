"""Every kind of story, for laws that hold for all."""

from collections.abc import Callable

import pytest

from whet.report.story import Story

from . import stories

ALL = {
    "classification": stories.story,
    "multi-label": stories.multi_label,
    "regression": stories.regression,
    "no baselines": lambda: stories.story((stories.judgement(baselines={}),)),
    "not judged": lambda: stories.story(()),
    "two test sets": stories.two_tests,
    "200 classes": lambda: stories.many_classes(200),
}


@pytest.fixture(params=list(ALL))
def any_story(request: pytest.FixtureRequest) -> Story:
    make: Callable[[], Story] = ALL[request.param]
    return make()
