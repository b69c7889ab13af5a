"""Bulk loads over HTTP: what arrives is seen whole, goes on after a cut, and outlives the key it was begun with."""

import time

import pytest
from tests.api.test_door import is_problem
from tests.datasets.conftest import records, send, settled
from tests.waiting import wait_for

from keyturn.issued.book import IssuedBook
from keyturn.operations import datasets, issued

CSV = "id,name\n1,ada\n2,grace\n3\n4,alan\n"


def test_a_csv_file(client, key):
    """Counts, rejected rows with reasons, and the records as they were sent."""
    headers = key()
    answer = send(client, headers, "people", CSV)
    assert answer.status_code == 202, answer.text
    page = settled(client, headers, answer.json()["id"])
    assert (page["state"], page["accepted"], page["rejected"]) == ("done", 3, 1)
    assert answer.headers["location"] == f"/api/v1/bulk/loads/{page['id']}"
    assert (page["received_bytes"], page["read_bytes"]) == (len(CSV), len(CSV))
    assert records(client, headers, "people") == [
        {"id": "1", "name": "ada"},
        {"id": "2", "name": "grace"},
        {"id": "4", "name": "alan"},
    ]
    left = client.get(f"/api/v1/bulk/loads/{page['id']}/rejected", headers=headers).json()
    assert left == {"items": [{"line": 4, "last_line": 4, "offset": 22, "why": "1 fields instead of 2"}]}
    summary = client.get("/api/v1/datasets", headers=headers).json()["items"][0]
    assert (summary["name"], summary["records"], summary["columns"]) == ("people", 3, ["id", "name"])


def test_ndjson_appends_and_replace_swaps_whole(client, key):
    """`replace` takes away what was there at the instant at which the new is seen."""
    headers = key()
    for text, mode in (('{"a":1}\n', "append"), ('{"a":2,"b":[null]}', "append"), ('{"a":3}', "replace")):
        page = send(client, headers, "d", text, "application/x-ndjson", mode=mode).json()
        assert settled(client, headers, page["id"])["state"] == "done"
        if mode == "append":
            assert {"a": 1} in records(client, headers, "d")
    assert records(client, headers, "d") == [{"a": 3}]


def test_export(client, key):
    """NDJSON as it came; CSV with all columns, and nothing in it that a spreadsheet would run."""
    headers = key()
    text = '{"a":1,"b":"=1+1"}\n{"b":"x,y","c":{"d":true}}\n'
    settled(client, headers, send(client, headers, "d", text, "application/x-ndjson").json()["id"])
    assert client.get("/api/v1/datasets/d/export", headers=headers).text == text
    answer = client.get("/api/v1/datasets/d/export?format=csv", headers=headers)
    assert answer.text == 'a,b,c\n1,\'=1+1,\n,"x,y","{""d"": true}"\n'
    assert answer.headers["content-disposition"] == 'attachment; filename="d.csv"'
    is_problem(client.get("/api/v1/datasets/d/export?format=exe", headers=headers), 422, "invalid_input")
    is_problem(client.get("/api/v1/datasets/none/export", headers=headers), 404, "not_found")


def test_a_record_with_a_credential_of_ours_is_left_out(client, key):
    """It would lie in clear in the dataset, and with every reader; the reason does not repeat it."""
    headers = key()
    rows = f"id,note\n1,fine\n2,{headers['AccessKey']}\n3,ktnk_ is only a prefix\n"
    page = settled(client, headers, send(client, headers, "people", rows).json()["id"])
    assert (page["accepted"], page["rejected"]) == (2, 1)
    said = client.get(f"/api/v1/bulk/loads/{page['id']}/rejected", headers=headers)
    assert [each["why"] for each in said.json()["items"]] == ["holds a credential of this hub"]
    assert headers["AccessKey"] not in said.text


def test_scopes_are_apart(client, key):
    """A key that loads cannot read, and one that reads cannot load; without one nothing goes."""
    bulk, read = key("bulk", "loader"), key("read", "reader")
    made = send(client, bulk, "d", CSV).json()["id"]
    settled(client, bulk, made)
    for path in ("datasets", "datasets/d", "datasets/d/records", "datasets/d/export"):
        is_problem(client.get(f"/api/v1/{path}", headers=bulk), 403, "cred.scope")
        is_problem(client.get(f"/api/v1/{path}"), 401, "cred.missing")
    is_problem(send(client, read, "d", CSV), 403, "cred.scope")
    is_problem(send(client, {}, "d", CSV), 401, "cred.missing")
    assert len(records(client, read, "d")) == 3


def test_nobody_sees_anothers_load(client, key):
    """Not even that it is there."""
    one, two = key(name="one"), key(name="two")
    made = send(client, one, "d", CSV).json()["id"]
    for method in ("GET", "DELETE"):
        is_problem(client.request(method, f"/api/v1/bulk/loads/{made}", headers=two), 404, "not_found")
    patch = {**two, "Content-Type": "application/partial-upload", "Upload-Offset": "0"}
    is_problem(client.patch(f"/api/v1/bulk/loads/{made}", content=b"x", headers=patch), 404, "not_found")
    assert [each["id"] for each in client.get("/api/v1/bulk/loads", headers=one).json()["items"]] == [made]
    assert client.get("/api/v1/bulk/loads", headers=two).json()["items"] == []


@pytest.mark.parametrize(
    ("kind", "extra", "body"),
    [
        ("application/json", {}, b"{}"),
        ("", {}, b"a\n1\n"),
        ("text/csv; charset=utf-16", {}, b"a\n1\n"),
        ("text/csv", {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
        ("text/csv", {}, b"\x1f\x8b\x08\x00bomb"),
        ("text/csv", {}, "a,b\n".encode("utf-16")),
    ],
)
def test_a_wrong_kind_of_content_is_415(client, key, hub, kind, extra, body):
    """Before anything is parsed; nothing of it stays on the disk."""
    headers = {**key(), "Content-Type": kind, **extra}
    answer = is_problem(client.post("/api/v1/bulk/d", content=body, headers=headers), 415, "bulk.kind")
    assert "text/csv" in answer.headers["accept-post"]
    assert datasets.uploads(hub).ids() == []


@pytest.mark.parametrize("name", ["..%2Fx", "A", "a.db", "a%20b", "x" * 64, "-a"])
def test_a_dataset_name_is_never_a_path(client, key, hub, name):
    """Small letters, digits, _ and - alone."""
    answer = client.post(
        f"/api/v1/bulk/{name}", content=b"a\n1\n", headers={**key(), "Content-Type": "text/csv"}
    )
    assert answer.status_code in {404, 422}
    assert datasets.uploads(hub).ids() == []


def test_too_much_is_413(client, key, hub, monkeypatch):
    """By its announced size before a byte is read, and by what really comes; the load is over then."""
    monkeypatch.setattr(datasets, "MOST_BYTES", 3 * 1024**2)
    headers = {**key(), "Content-Type": "text/csv"}
    is_problem(client.post("/api/v1/bulk/d", content=b"a\n" * 2**21, headers=headers), 413, "too_large")

    def pieces():
        for _ in range(40):
            yield b"a\n" * 2**16

    is_problem(client.post("/api/v1/bulk/d", content=pieces(), headers=headers), 413, "too_large")
    assert [each.state.value for each in datasets.loads(hub)] == ["failed"]
    assert datasets.uploads(hub).ids() == []


def test_no_room_is_507(client, key, monkeypatch):
    """The hub's own database must not die of somebody's upload."""
    monkeypatch.setattr("keyturn.datasets.uploads.SPARE_BYTES", 1 << 60)
    is_problem(send(client, key(), "d", CSV), 507, "bulk.no_room")


def test_nothing_readable_fails_the_load(client, key):
    """The reasons stay readable; readers see no dataset change."""
    headers = key()
    for text, kind in (("{\n[\n", "application/x-ndjson"), ("", "text/csv")):
        made = send(client, headers, "d", text, kind).json()["id"]
        page = settled(client, headers, made)
        assert page["state"] == "failed"
        assert page["why"]


def test_an_upload_in_pieces(client, key):
    """Begun empty, sent in pieces, asked where it stands; a wrong offset tells the right one."""
    headers = {**key(), "Content-Type": "text/csv"}
    made = client.post("/api/v1/bulk/d", headers={**headers, "Upload-Complete": "?0"})
    assert (made.status_code, made.headers["upload-offset"]) == (202, "0")
    path = made.headers["location"]
    data = CSV.encode()
    piece = {**headers, "Content-Type": "application/partial-upload", "Upload-Complete": "?0"}
    answer = client.patch(path, content=data[:9], headers={**piece, "Upload-Offset": "0"})
    assert (answer.headers["upload-offset"], answer.headers["upload-complete"]) == ("9", "?0")
    wrong = client.patch(path, content=data[5:], headers={**piece, "Upload-Offset": "5"})
    assert is_problem(wrong, 409, "bulk.offset").headers["upload-offset"] == "9"
    assert client.head(path, headers=headers).headers["upload-offset"] == "9"
    last = {**piece, "Upload-Offset": "9", "Upload-Complete": "?1"}
    assert client.patch(path, content=data[9:], headers=last).status_code == 202
    assert settled(client, headers, made.json()["id"])["accepted"] == 3
    is_problem(
        client.patch(path, content=b"x", headers={**last, "Upload-Offset": str(len(data))}),
        409,
        "bulk.offset",
    )


@pytest.mark.parametrize("offset", [None, "-1", "x", "1e3", "٣", "9" * 30])
def test_a_strange_offset_is_400(client, key, offset):
    """Never a guess."""
    headers = {**key(), "Content-Type": "text/csv"}
    path = client.post("/api/v1/bulk/d", headers={**headers, "Upload-Complete": "?0"}).headers["location"]
    said = {} if offset is None else {"Upload-Offset": offset.encode()}
    is_problem(client.patch(path, content=b"x", headers={**headers, **said}), 400, "bulk.offset")


def test_the_same_idempotency_key_is_the_same_load(client, key):
    """Sent twice, loaded once; for another dataset it is refused."""
    headers = {**key(), "Idempotency-Key": "night-7"}
    first = send(client, headers, "d", CSV).json()["id"]
    settled(client, headers, first)
    again = send(client, headers, "d", CSV)
    assert (again.status_code, again.json()["id"]) == (200, first)
    assert len(records(client, headers, "d")) == 3
    is_problem(send(client, headers, "other", CSV), 409, "conflict")


def test_giving_up(client, key, hub):
    """Nothing of a cancelled load is seen; a done one stays."""
    headers = {**key(), "Content-Type": "text/csv"}
    made = client.post(
        "/api/v1/bulk/d", content=b"a\n1\n", headers={**headers, "Upload-Complete": "?0"}
    ).json()
    path = f"/api/v1/bulk/loads/{made['id']}"
    assert client.delete(path, headers=headers).json()["state"] == "cancelled"
    assert client.delete(path, headers=headers).json()["state"] == "cancelled"
    assert datasets.uploads(hub).ids() == []
    done = send(client, headers, "d", CSV).json()["id"]
    settled(client, headers, done)
    is_problem(client.delete(f"/api/v1/bulk/loads/{done}", headers=headers), 409, "conflict")


def test_how_many_at_once(client, key):
    """The eleventh open load of a credential waits; another credential's does not."""
    headers = {**key(), "Content-Type": "text/csv", "Upload-Complete": "?0"}
    codes = [client.post("/api/v1/bulk/d", headers=headers).status_code for _ in range(11)]
    assert codes == [202] * 10 + [429]
    assert client.post("/api/v1/bulk/d", headers=headers).headers["retry-after"] == "30"
    other = {**key(name="other"), "Content-Type": "text/csv"}
    assert client.post("/api/v1/bulk/d", content=CSV.encode(), headers=other).status_code == 202


def begun(client, headers):
    """A load that waits for more."""
    open_ = {**headers, "Content-Type": "text/csv", "Upload-Complete": "?0"}
    made = client.post("/api/v1/bulk/d", content=CSV.encode()[:9], headers=open_)
    assert made.status_code == 202
    return made.headers["location"]


def finish(client, headers, path):
    sent = {**headers, "Content-Type": "application/partial-upload", "Upload-Offset": "9"}
    return client.patch(path, content=CSV.encode()[9:], headers=sent)


def test_a_running_load_ends_with_the_secret_it_was_begun_with(client, key, hub):
    """Row 8's promise: the retired secret finishes its load, and is refused everything else within a second."""
    old = key()
    path = begun(client, old)
    new = {"AccessKey": issued.reissue(hub, "etl", 0.2).value.reveal()}
    assert client.get("/api/v1/whoami", headers=new).status_code == 200
    book = IssuedBook(hub.store, hub.roots)
    wait_for(lambda: not book.look(old["AccessKey"]).accepted)
    is_problem(client.get("/api/v1/whoami", headers=old), 401, "cred.revoked")
    is_problem(send(client, old, "d", CSV), 401, "cred.revoked")
    is_problem(client.get("/api/v1/bulk/loads", headers=old), 401, "cred.revoked")
    other = begun(client, new)
    is_problem(client.get(other, headers=old), 401, "cred.revoked")
    assert finish(client, old, path).status_code == 202
    load_id = path.rpartition("/")[2]
    assert settled(client, new, load_id)["accepted"] == 3
    is_problem(client.get(path, headers=old), 401, "cred.revoked")


def test_the_new_secret_may_finish_it_as_well(client, key, hub):
    """Whoever loads may have picked up the new key in between."""
    path = begun(client, key())
    new = {"AccessKey": issued.reissue(hub, "etl", 0.2).value.reveal()}
    assert finish(client, new, path).status_code == 202
    assert settled(client, new, path.rpartition("/")[2])["accepted"] == 3


def test_a_secret_that_was_ended_on_purpose_finishes_nothing(client, key, hub):
    """Revoked by hand or for a leak: its loads stop with it."""
    old = key()
    path = begun(client, old)
    issued.revoke(hub, "etl")
    is_problem(finish(client, old, path), 401, "cred.revoked")
    is_problem(client.get(path, headers=old), 401, "cred.revoked")


def test_the_hold_ends_after_a_day(client, key, hub):
    """A load that is never finished does not keep a retired secret useful for ever."""
    old = key()
    path = begun(client, old)
    issued.reissue(hub, "etl", 0.0, force=True)
    book = IssuedBook(hub.store, hub.roots)
    wait_for(lambda: not book.look(old["AccessKey"]).accepted)
    assert client.get(path, headers=old).status_code == 200
    hub.store.write(lambda tx: tx.run("UPDATE bulk_load SET until_at = ?", time.time() - 1))
    is_problem(client.get(path, headers=old), 401, "cred.revoked")
    new = {"AccessKey": "x"}
    del new
    wait_for(lambda: datasets.loads(hub)[0].state.value == "failed")


def test_a_pinned_secret_keeps_its_networks(client, key, hub):
    """A load is no way around the allowed networks."""
    old = key()
    path = begun(client, old)
    issued.reissue(hub, "etl", 0.0, force=True)
    book = IssuedBook(hub.store, hub.roots)
    wait_for(lambda: not book.look(old["AccessKey"]).accepted)
    sql = "UPDATE connection SET settings = ? WHERE name = 'etl'"
    hub.store.write(lambda tx: tx.run(sql, '{"scopes":"bulk","allowed_cidrs":"192.0.2.0/24"}'))
    is_problem(client.get(path, headers=old), 403, "cred.ip_denied")
    hub.store.write(lambda tx: tx.run(sql, '{"scopes":"read"}'))
    is_problem(client.get(path, headers=old), 403, "cred.scope")
