"""Events are taken once, refused with a record, and replayed by a person."""

import base64
import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from tests.api.test_door import is_problem
from tests.waiting import wait_for

from keyturn.errors import Conflict, InvalidInput
from keyturn.issued.book import IssuedBook
from keyturn.keymaking import webhooks
from keyturn.operations import intake, issued

EVENT = {"id": "e-1", "type": "order.paid", "data": {"total": 3}}


def post(client, headers, event, path="/api/v1/events", kind="application/json"):
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return client.post(path, content=body, headers={**headers, "Content-Type": kind})


def taken(hub):
    return [(e.id, json.loads(e.body)) for e in intake.page(hub, "", 500)]


def test_an_event_is_taken_once(client, key, hub):
    """The same again is a duplicate and no error; another event with its id is a conflict."""
    headers = key()
    answer = post(client, headers, EVENT)
    assert (answer.status_code, answer.json()) == (202, {"id": "e-1", "status": "accepted"})
    assert post(client, headers, EVENT).json()["status"] == "duplicate"
    is_problem(post(client, headers, {**EVENT, "data": 4}), 409, "event.conflict")
    assert post(client, key(name="other"), EVENT).json()["status"] == "accepted"
    assert taken(hub) == [("e-1", EVENT)] * 2


def test_of_the_same_event_at_once_one_is_taken(hub, key):
    """Twenty senders of one id: one row."""
    key()
    found = issued.get(hub, "crm")
    sent = [intake.read(json.dumps(EVENT).encode())]
    with ThreadPoolExecutor(8) as pool:
        said = list(
            pool.map(
                lambda _: intake.take(hub, found.connection.id, found.secrets[0].version_id, sent)[0].taken,
                range(20),
            )
        )
    assert sorted(said) == ["accepted"] + ["duplicate"] * 19
    assert len(taken(hub)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"id": "a"}',
        b'{"id": 1, "type": "t"}',
        b'{"id": "", "type": "t"}',
        b'{"id": "a\\nb", "type": "t"}',
        b'{"id": "a", "type": "t", "x": NaN}',
        b'{"id": "a", "type": "t", "x": "\\ud800"}',
        b'{"id": "a", "type": "t", "x": "\\u0000"}',
        b'{"id": "a", "type": "t", "x": ' + b"[" * 5000 + b"}",
    ],
)
def test_a_malformed_event_is_422_and_on_record(client, key, hub, body):
    """What was sent is not repeated in the answer."""
    is_problem(post(client, key(), body), 422, "event.malformed")
    assert [(r.code, r.size) for r in intake.refusals(hub)] == [("event.malformed", len(body))]
    assert taken(hub) == []


def test_sizes(client, key, hub):
    """An event has its own limit, below the body's."""
    big = {**EVENT, "data": "x" * 300_000}
    is_problem(post(client, key(), big), 413, "event.too_large")
    is_problem(post(client, key(name="b"), b"x" * 2_000_000), 413, "too_large")
    assert [r.body for r in intake.refusals(hub)] == [None]


def test_a_wrong_content_type_is_415(client, key):
    """With what is taken instead."""
    assert (
        "accept-post" in is_problem(post(client, key(), EVENT, kind="text/plain"), 415, "event.kind").headers
    )


def test_an_event_key_reads_nothing_and_a_reader_sends_nothing(client, key):
    """Acceptance 4: a write key cannot read."""
    writer, reader = key(), key("read", "reader")
    for path in ("/api/v1/events", "/api/v1/events/refused", "/api/v1/datasets"):
        is_problem(client.get(path, headers=writer), 403, "cred.scope")
    is_problem(post(client, reader, EVENT), 403, "cred.scope")
    post(client, writer, EVENT)
    page = client.get("/api/v1/events", headers=reader).json()
    assert [item["event"] for item in page["items"]] == [EVENT]


def test_pages(client, key):
    """In order of arrival."""
    writer, reader = key(), key("read", "reader")
    for n in range(5):
        post(client, writer, {"id": f"e{n}", "type": "t"})
    first = client.get("/api/v1/events?limit=3", headers=reader).json()
    rest = client.get("/api/v1/events", params={"after": first["next"]}, headers=reader).json()
    assert [i["event"]["id"] for i in first["items"] + rest["items"]] == [f"e{n}" for n in range(5)]
    assert "next" not in rest


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_batch_is_answered_event_by_event(client, key, hub, kind):
    """The good ones are taken, the bad ones are on record, and the sender is told which is which."""
    parts = [json.dumps(EVENT), '{"id": "no type"}', json.dumps({**EVENT, "id": "e-2"}), json.dumps(EVENT)]
    body = "\n".join(parts) if "nd" in kind else f"[{','.join(parts)}]"
    answer = post(client, key(), body.encode(), "/api/v1/events/batch", kind)
    assert answer.status_code == 207
    said = [(item["id"], item["status"]) for item in answer.json()["items"]]
    assert said == [("e-1", "accepted"), ("", "refused"), ("e-2", "accepted"), ("e-1", "duplicate")]
    assert [e for e, _ in taken(hub)] == ["e-1", "e-2"]
    assert [r.code for r in intake.refusals(hub)] == ["event.malformed"]
    whole = post(client, key(name="b"), f"[{json.dumps(EVENT)}]".encode(), "/api/v1/events/batch")
    assert whole.status_code == 202


def test_a_batch_is_bounded(client, key):
    """500 events, and each counts as a call."""
    headers = key(rate_per_minute="600")
    many = json.dumps([{"id": str(n), "type": "t"} for n in range(501)]).encode()
    is_problem(post(client, headers, many, "/api/v1/events/batch"), 422, "event.malformed")
    is_problem(post(client, headers, b"[]", "/api/v1/events/batch"), 422, "event.malformed")
    part = json.dumps([{"id": str(n), "type": "t"} for n in range(500)]).encode()
    assert post(client, headers, part, "/api/v1/events/batch").status_code == 202
    answer = is_problem(post(client, headers, part, "/api/v1/events/batch"), 429, "rate.limited")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_gap_after_a_rotation_is_seen_and_closed(client, key, hub):
    """Row 14's promise: what came with the retired key is refused, kept for a day, and replayed once."""
    old = key()
    new = {"AccessKey": issued.reissue(hub, "crm", 0.0).value.reveal()}
    assert post(client, new, EVENT).status_code == 202
    book = IssuedBook(hub.store, hub.roots)
    wait_for(lambda: not book.look(old["AccessKey"]).accepted)
    late = {**EVENT, "id": "late"}
    answer = is_problem(post(client, old, late), 401, "cred.revoked")
    assert old["AccessKey"] not in answer.text
    row = intake.refusals(hub, "crm")[0]
    assert (row.code, json.loads(row.body), row.address) == ("cred.revoked", late, "testclient")
    assert old["AccessKey"] not in json.dumps(row.__dict__)
    assert intake.replay_all(hub, "crm") == (1, [])
    assert intake.replay_all(hub, "crm") == (0, [])
    assert [e for e, _ in taken(hub)] == ["e-1", "late"]
    with pytest.raises(Conflict, match="already"):
        intake.replay(hub, row.id)


def test_a_strangers_events_are_counted_not_kept(client, hub):
    """Nobody fills the disk without a credential; what is kept has no body, and the guesser is limited."""
    for n in range(30):
        post(client, {"AccessKey": f"ktnk_{n}"}, {**EVENT, "data": "x" * 1000})
    rows = intake.refusals(hub)
    assert len(rows) == 20
    assert {(r.connection_id, r.body, r.code) for r in rows} == {("", None, "cred.malformed")}
    assert post(client, {}, EVENT).status_code == 401
    assert post(client, {"AccessKey": "ktnk_x"}, EVENT).status_code == 429
    assert len(intake.refusals(hub)) == 20


def test_the_record_of_one_sender_is_bounded(client, key, hub, monkeypatch):
    """In rows and in bytes: beyond the bytes only what happened is kept."""
    monkeypatch.setattr(intake, "_REFUSED_ROWS", 4)
    monkeypatch.setattr(intake, "_REFUSED_BYTES", 500)
    headers = key()
    for n in range(6):
        post(client, headers, b"[" + b"x" * 200 + b"%d" % n)
    rows = intake.refusals(hub)
    assert len(rows) == 4
    assert sum(r.body is not None for r in rows) == 2


def test_a_credential_inside_an_event_is_refused_and_not_kept(client, key, hub):
    """A token in a body would lie in clear in our tables, and in every reader's."""
    headers = key()
    value = headers["AccessKey"]
    answer = is_problem(post(client, headers, {**EVENT, "data": value}), 422, "event.holds_credential")
    assert value not in answer.text
    assert intake.refusals(hub)[0].body is None
    assert taken(hub) == []


def test_event_types(client, hub, publisher):
    """A publisher that may send orders sends nothing else."""
    connection, value = publisher(event_types="order.*")
    assert webhook(client, connection, value, EVENT).status_code == 202
    is_problem(webhook(client, connection, value, {"type": "user.gone"}, "e-2"), 403, "event.type")
    assert [r.code for r in intake.refusals(hub, "orders")] == ["event.type"]


def test_old_ones_go(client, key, hub, monkeypatch):
    """Refusals after a day, events after thirty."""
    headers = key()
    post(client, headers, EVENT)
    post(client, headers, b"{")
    assert intake.prune(hub) == 0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86401)
    assert intake.prune(hub) == 1
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    assert intake.prune(hub) == 1


# -- signed webhooks -----------------------------------------------------------------------------------------------


def signature(value, event_id, at, body):
    """By the standard's own words, without a line of the product."""
    key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    made = hmac.new(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(made).decode()


def webhook(client, connection, value, event, event_id="e-1", at=None, signed=None):
    body = json.dumps(event).encode()
    at = int(time.time()) if at is None else at
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(value, event_id, at, body) if signed is None else signed,
    }
    return client.post(f"/api/v1/webhooks/{connection.id}", content=body, headers=headers)


def test_the_standards_own_example():
    """The specification's vector: secret, id, timestamp, payload and signature."""
    value = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert webhooks.sign(value, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == wanted
    assert (
        webhooks.signed_by([value], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, f"v1,x {wanted}") == 0
    )


def test_a_secret_is_what_any_library_takes():
    """Base64 of 24 to 64 bytes behind `whsec_`, found by its pattern and checksum, and never the same."""
    values = {webhooks.secret() for _ in range(200)}
    assert len(values) == 200
    for value in values:
        assert 24 <= len(base64.b64decode(value.removeprefix("whsec_"), validate=True)) <= 64
        assert webhooks.is_whole(value)
        assert not webhooks.is_whole(value[:-1] + ("0" if value[-1] != "0" else "1"))
        assert webhooks.pattern().search(f"key={value};")


def test_a_signed_webhook(client, hub, publisher):
    """Its id is the header's; a replay is a duplicate."""
    connection, value = publisher()
    event = {"type": "order.paid", "data": 1}
    assert webhook(client, connection, value, event).json() == {"id": "e-1", "status": "accepted"}
    assert webhook(client, connection, value, event).json()["status"] == "duplicate"
    assert taken(hub) == [("e-1", event)]
    assert issued.get(hub, "orders").secrets[0].first_used_at is not None


def test_a_signature_that_is_not(client, hub, publisher):
    """Wrong secret, another body's, too old, from the future, none, strange: all the same answer; then a limit."""
    connection, value = publisher()
    now = int(time.time())
    other = webhooks.secret()
    answers = [
        webhook(client, connection, other, EVENT),
        webhook(client, connection, value, EVENT, signed=signature(value, "e-1", now, b"other")),
        webhook(client, connection, value, EVENT, at=now - 301),
        webhook(client, connection, value, EVENT, at=now + 330),
        webhook(client, connection, value, EVENT, signed=""),
        webhook(client, connection, value, EVENT, signed="v1," + "A" * 100_000),
        webhook(client, connection, value, EVENT, signed="v1a," + "x"),
        webhook(client, connection, value, EVENT, at="1e9"),
        webhook(client, SimpleId("con_none"), value, EVENT),
    ]
    for answer in answers:
        assert value not in is_problem(answer, 401, "event.signature").text
    assert taken(hub) == []
    rows = intake.refusals(hub, "orders")
    assert {r.code for r in rows} == {"event.signature"}
    with pytest.raises(InvalidInput, match="anybody"):
        intake.replay(hub, next(r.id for r in rows if r.body))
    assert intake.replay(hub, next(r.id for r in rows if r.body), unsigned=True).taken == "accepted"
    codes = [webhook(client, connection, other, EVENT).status_code for _ in range(20)]
    assert codes[-1] == 429
    assert webhook(client, connection, value, EVENT, "e-9").status_code == 202


class SimpleId:
    def __init__(self, value):
        self.id = value


def test_either_secret_in_the_overlap_then_only_the_new(client, hub, publisher):
    """The old one's last signature is good until it retires; one with both is good all along."""
    connection, old = publisher()
    assert webhook(client, connection, old, {"type": "a"}, "1").status_code == 202
    new = issued.reissue(hub, "orders", 0.3).value.reveal()
    assert webhook(client, connection, old, {"type": "a"}, "2").status_code == 202
    assert webhook(client, connection, new, {"type": "a"}, "3").status_code == 202
    wait_for(lambda: [s.state.value for s in issued.get(hub, "orders").secrets][-1] == "revoked")
    is_problem(webhook(client, connection, old, {"type": "a"}, "4"), 401, "event.signature")
    now, body = int(time.time()), json.dumps({"type": "a"}).encode()
    both = signature(old, "5", now, body) + " " + signature(new, "5", now, body)
    assert webhook(client, connection, new, {"type": "a"}, "5", now, both).status_code == 202


def test_who_signs_with_the_old_secret_is_told(client, hub, publisher):
    """From the new one's first use on, as with a key; whoever signs with the new one is told nothing."""
    connection, old = publisher()
    new = issued.reissue(hub, "orders", 3600).value.reveal()
    assert "keyturn-credential-state" not in webhook(client, connection, new, {"type": "a"}, "1").headers
    told = webhook(client, connection, old, {"type": "a"}, "2").headers
    assert told["keyturn-credential-state"] == "retiring"
    assert told["keyturn-credential-successor"] == f'B;hint="{new[-4:]}"'
    assert told["keyturn-credential-expires"].endswith("GMT")


def test_a_signature_made_too_early(client, hub):
    """A signing secret made for later signs nothing before its hour."""
    handed = issued.issue(hub, "webhook", "orders", {}, starts_in_s=3600.0)
    value = handed.value.reveal()
    is_problem(webhook(client, handed.connection, value, {"type": "a"}, "1"), 401, "event.signature")
    hub.store.write(lambda tx: tx.run("UPDATE issued_secret SET starts_at = 1"))
    assert webhook(client, handed.connection, value, {"type": "a"}, "2").status_code == 202
    assert [s.state.value for s in issued.get(hub, "orders").secrets] == ["live"]


def test_a_signing_secret_opens_no_other_door(client, publisher):
    """It is for signing: in a header it is nothing."""
    _, value = publisher()
    is_problem(client.get("/api/v1/whoami", headers={"AccessKey": value}), 401, "cred.malformed")


# -- Segment -------------------------------------------------------------------------------------------------------


@pytest.fixture
def segment(hub):
    handed = issued.issue(hub, "hub-segment", "segment", {"contact": "owner@example.com"})
    return {"accessKey": handed.value.reveal()}


@pytest.mark.parametrize("path", ["/api/v1/segment", "/clickstream/segmentio/event"])
def test_segments_calls(client, hub, segment, path):
    """As its destination sends them: one call, or a batch; messageId makes a retry harmless."""
    call = {"type": "track", "messageId": "m1", "event": "Signed Up", "userId": "u1", "properties": {}}
    assert post(client, segment, call, path).status_code == 202
    assert post(client, segment, call, path).json()["status"] == "duplicate"
    batch = {"batch": [{**call, "messageId": "m2"}, {"type": "delete", "messageId": "m3"}]}
    answer = post(client, segment, batch, path)
    assert [item["status"] for item in answer.json()["items"]] == ["accepted", "refused"]
    assert [e for e, _ in taken(hub)] == ["m1", "m2"]


def test_a_segment_key_can_do_nothing_else(client, segment):
    """It has its own prefix and one scope, which cannot be widened."""
    assert segment["accessKey"].startswith("ktnw_")
    is_problem(client.get("/api/v1/events", headers=segment), 403, "cred.scope")
    is_problem(
        client.post("/api/v1/bulk/d", content=b"a\n", headers={**segment, "Content-Type": "text/csv"}),
        403,
        "cred.scope",
    )


def test_a_segment_keys_scope_is_fixed(hub):
    """Whoever issues it cannot give it more."""
    with pytest.raises(InvalidInput):
        issued.issue(hub, "hub-segment", "s", {"contact": "o@example.com", "scopes": "read"})


def test_the_hubs_own_application_has_it_all(hub):
    """Every route of the intake is in the application that is served, and its paths are described."""
    from keyturn.api.app import create_app

    with TestClient(create_app(hub), raise_server_exceptions=False) as client:
        paths = client.get("/api/v1/openapi.json").json()["paths"]
        wanted = (
            "bulk/{dataset}",
            "bulk/loads/{load_id}",
            "datasets/{dataset}/export",
            "events",
            "events/batch",
            "leaks",
        )
        assert {f"/api/v1/{path}" for path in wanted} <= set(paths)
        is_problem(post(client, {}, EVENT), 401, "cred.missing")
        is_problem(client.post("/api/v1/leaks", json=[]), 401, "cred.missing")
        assert client.get("/handover").status_code == 200
