"""The titles and texts of errors on pages."""

from __future__ import annotations

import inspect

import pytest

from stenobird import errors
from stenobird.errors import JobError, StenobirdError
from stenobird.web.site.templating import problems

CLASSES = {
    cls.code: cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, StenobirdError) and "code" in vars(cls)
}
OF_JOBS = {code for code, cls in CLASSES.items() if issubclass(cls, JobError)}
KNOWN = problems()

FOR_PROGRAMS = ("retry_after_seconds", "Authorization", "POST", "audio_url", "events_url", "stenobird doctor")
"""Words that mean nothing to visitors."""

WITH_A_MESSAGE_OF_THEIR_OWN = {"rate_limited", "invalid_request"}
"""Raised with a specific message; the default one is for programs."""


def test_every_job_error_has_a_title_on_the_page() -> None:
    assert set(KNOWN) >= OF_JOBS
    assert set(KNOWN) - {"offline"} <= set(CLASSES)


def test_errors_of_links_show_the_message_of_the_service() -> None:
    assert {code for code in OF_JOBS if KNOWN[code]["text"]} == set()


@pytest.mark.parametrize("code", sorted(KNOWN))
def test_error_texts_on_pages_are_written_for_people(code: str) -> None:
    known = KNOWN[code]
    text = known["text"] or CLASSES[code]().message

    assert known["title"]
    if code not in WITH_A_MESSAGE_OF_THEIR_OWN:
        assert [word for word in FOR_PROGRAMS if word in text] == []
    assert ("href" in known) == ("link" in known)
