"""Definitions from answers: whatever is answered, the document passes the check or the answers are refused by name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn import definitions
from keyturn.definitions.check import check
from keyturn.errors import Conflict, InvalidInput, KeyturnError
from keyturn.model.card import GapClass, Hands, RevokeScope, Strategy
from keyturn.operations import drafting

BASE = {
    "title": "Acme Notes",
    "address": "https://{subdomain}.acme.example/api",
    "test_path": "/me",
    "who": "$.user.id",
    "together": "yes",
}
BY_HUB = {
    "made_by": "hub",
    "create_path": "/keys",
    "value": "$.secret",
    "handle": "$.id",
    "delete_path": "/keys/{id}",
}
BY_PERSON = {"how_made": "Settings > API: New key", "how_ended": "Settings > API: Delete the old one"}
AUTH = {
    "bearer": {},
    "header": {"carrier": "X-API-Key"},
    "query": {"carrier": "key"},
    "basic": {},
    "client": {
        "token_url": "https://login.acme.example/token",
        "scope": "read write",
        "hosts": "*.acme.example",
    },
}
LISTED = {"list_path": "/keys", "list_items": "$.keys", "list_id": "$.id"}
READ = {"sample_path": "/notes", "sample_items": "$.notes", "sample_limit": "per_page"}


def every():
    """Each way a credential travels, made by whom, beside the old one or not, listed or not, read by jobs or not."""
    for auth, hub, beside, more in itertools.product(AUTH, (True, False), (True, False), (True, False)):
        said = {**BASE, "auth": auth, **AUTH[auth], "together": "yes" if beside else "no"}
        said |= BY_HUB if hub else BY_PERSON
        for name in () if beside else ("handle", "delete_path"):
            said.pop(name, None)
        if hub and not beside:
            said["how_ended"] = BY_PERSON["how_ended"]
        if more:
            said |= {**READ, **(LISTED if hub else {}), "days": "0", "locks_after": "5"}
            said |= {"who": "none", "always": "$.user"}
        yield pytest.param(said, hub, beside, id=f"{auth}-{'hub' if hub else 'person'}-{beside}-{more}")


@pytest.mark.parametrize(("said", "hub", "beside"), list(every()))
def test_every_kind_of_answer_makes_a_document_that_passes(said, hub, beside):
    """And its card says what was answered."""
    text, report = drafting.draft(said)
    assert report.usable
    assert check(text, "again.yaml").usable
    card = definitions.card(report.definition)
    assert card.hands is (Hands.AUTOMATIC if hub else Hands.GUIDED)
    if hub:
        assert card.strategy is (Strategy.MANY_IDS if beside else Strategy.REGENERATE)
    else:
        assert card.strategy is (Strategy.SUPPLIED if beside else Strategy.REGENERATE)
        assert beside or card.gap_class is GapClass.Z2
    can = definitions.capabilities(report.definition)
    assert (can.reader is not None) is bool(said.get("sample_path"))
    assert (can.lister is not None) is bool(said.get("list_path"))
    assert (can.revoker is not None) is (hub and beside)


CONSENT = {
    "title": "Acme Notes",
    "address": "https://api.acme.example",
    "auth": "consent",
    "authorize_url": "https://login.acme.example/authorize",
    "token_url": "https://login.acme.example/token",
    "hosts": "*.acme.example",
    "test_path": "/me",
    "who": "$.id",
}


@pytest.mark.parametrize("rotates", ["always", "sometimes", "never"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("revoked", [True, False])
def test_a_consent_makes_a_document_that_passes(rotates, shared, revoked):
    """Its client is the administrator's; what is shared is never ended alone; a refresh that changes nothing is the test."""
    ends = {"revoke_url": "https://login.acme.example/revoke"} if revoked else {"how_ended": "Remove the app"}
    said = {**CONSENT, "rotates": rotates, "shared": "yes" if shared else "no", "idle_days": "180", **ends}
    _, report = drafting.draft(said)
    assert report.usable
    assert [f for f in report.findings if f.level == "refuse"] == []
    definition = report.definition
    card, can = definitions.card(definition), definitions.capabilities(definition)
    assert card.strategy is Strategy.CONSENT
    assert (card.revoke_scope is RevokeScope.GRANT) is shared
    assert can.authorizer is not None
    assert (can.revoker is not None) is revoked
    assert definition.auth.refresh.before_test is (rotates == "never")
    assert {each.name for each in definition.admin_parts} == {"client_id", "client_secret"}


def test_a_public_address_makes_a_document_that_passes():
    """Nothing is asked about a credential that there is not."""
    said = {"title": "Acme Notes", "address": "https://acme.example/api", "auth": "none"}
    said |= {"test_path": "/ok", "always": "$.status"}
    _, report = drafting.draft(said)
    assert report.usable
    assert not report.findings
    with pytest.raises(InvalidInput, match="together"):
        drafting.draft({**said, "together": "yes"})


def test_what_differs_between_accounts_becomes_a_setting():
    _, report = drafting.draft({**BASE, **BY_PERSON})
    (setting,) = report.definition.inputs
    assert (setting.name, setting.pattern) == ("subdomain", "^[A-Za-z0-9-]{1,63}$")
    assert report.definition.hosts == ("*.acme.example",)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"address": "acme.example"}, "address"),
        ({"address": "https://{where}"}, "hosts"),
        ({"address": "https://api.{region}"}, "hosts"),
        ({"address": "http://api.acme.example"}, "base_url"),
        ({"address": "https://api.acme.example", "hosts": "other.example"}, "base_url"),
        ({"title": ""}, "title"),
        ({"id": "Not An Id"}, "id"),
        ({"auth": "magic"}, "auth"),
        ({"test_path": "me"}, "test_path"),
        ({"test_path": "/${secret.api_key}"}, "test_path"),
        ({"who": "user.id"}, "who"),
        ({"together": "perhaps"}, "together"),
        ({"refused": "200"}, "refused"),
        ({"days": "soon"}, "days"),
        ({"title": "a\nb"}, "title"),
        ({"carrier": "X-Key"}, "carrier"),
        ({**BY_HUB, "delete_path": "/keys"}, "delete_path"),
    ],
)
def test_a_wrong_answer_is_refused_by_its_name(wrong, field):
    with pytest.raises(InvalidInput) as refused:
        drafting.draft({**BASE, **({} if "made_by" in wrong else BY_PERSON), **wrong})
    assert refused.value.facts["field"] == field


def test_every_answer_that_is_missing_is_named_at_once():
    with pytest.raises(InvalidInput, match=r"--address.*--test-path.*--who.*--together.*--how-made"):
        drafting.draft({"title": "Acme"})


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([q.name for q in drafting.QUESTIONS]), st.text(max_size=30)))
def test_hostile_answers_make_a_good_document_or_none(answers):
    try:
        text, report = drafting.draft({**BASE, **BY_PERSON, **answers})
    except KeyturnError:
        return
    assert report.usable
    assert check(text, "again.yaml").usable


@pytest.mark.parametrize(
    "typed",
    ["x: y", "'", '"', "# no", "{{}}", "- a", "&a *a", "!!python/object:os.system", "${job.date}", "a: b: c"],
)
def test_an_answer_is_text_and_nothing_else(typed):
    """What looks like YAML in an answer stays an answer."""
    try:
        _, report = drafting.draft({**BASE, **BY_PERSON, "title": typed, "id": "acme", "how_made": typed})
    except InvalidInput:
        assert "${" in typed
        return
    assert report.definition.title == typed
    assert report.definition.manual.create_steps[0].text == typed


def test_a_file_is_written_whole_and_not_over_another(tmp_path):
    path = tmp_path / "notes.yaml"
    drafting.write(path, "one")
    with pytest.raises(Conflict):
        drafting.write(path, "two")
    drafting.write(path, "two", force=True)
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["notes.yaml"]
    with pytest.raises(InvalidInput):
        drafting.write(tmp_path / "nowhere" / "x.yaml", "x")
