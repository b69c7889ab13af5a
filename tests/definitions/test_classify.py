"""What an answer that is no success means."""

import pytest

from keyturn.definitions import classify
from keyturn.definitions.model import Condition, ErrorRule
from keyturn.transport.http import Answer

PAGE, JSON = {"content-type": "text/html; charset=utf-8"}, {"content-type": "application/json"}
BY_STATUS = ErrorRule(Condition(status=(401,)), "credential_invalid")


@pytest.mark.parametrize("kind", ["credential_invalid", "client_invalid", "reauth_required"])
def test_a_page_is_no_verdict_by_its_status_alone(kind):
    """A gateway answers with any status; the same status with the API's own body, or with none, is the vendor's no."""
    rules = [ErrorRule(Condition(status=(401,)), kind)]
    assert classify.read(Answer(401, PAGE, b"<p>Sign in"), rules, "test").kind == "unexpected_page"
    assert classify.read(Answer(401, JSON, b'{"error": "no"}'), rules, "test").kind == kind
    assert classify.read(Answer(401, {}, b""), rules, "test").kind == kind


@pytest.mark.parametrize(
    "known_by",
    [
        Condition(status=(401,), content_type_contains="html"),
        Condition(status=(401,), text_contains="Acme says no"),
        Condition(status=(401,), header=("X-Acme", "no")),
    ],
)
def test_a_vendors_own_page_is_known_by_more(known_by):
    """Where a rule says by what, a page is a refusal like any other."""
    answer = Answer(401, {**PAGE, "x-acme": "no"}, b"<p>Acme says no")
    assert (
        classify.read(answer, [ErrorRule(known_by, "credential_invalid")], "test").kind
        == "credential_invalid"
    )


def test_a_page_may_still_say_what_is_not_about_the_credential():
    """Being told to wait, or to ask for a right, needs no proof of who says so."""
    rules = [BY_STATUS, ErrorRule(Condition(status=(403,)), "permission")]
    assert classify.read(Answer(403, PAGE, b"<p>"), rules, "test").kind == "permission"
    assert classify.read(Answer(429, PAGE, b"<p>"), rules, "test").kind == "rate_limited"
