"""At the door: who is let in, how a refusal looks, and what it never says."""

import time
from email.utils import parsedate_to_datetime

import pytest
from tests.waiting import wait_for

from keyturn.api.door import Attempts
from keyturn.issued.book import IssuedBook
from keyturn.keymaking import passwords
from keyturn.operations import connections, issued
from keyturn.storage import journal


def is_problem(answer, status, code):
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == body["request_id"]
    assert (body["status"], body["code"]) == (status, code)
    assert {"type", "title", "detail"} <= set(body)
    return answer


@pytest.mark.parametrize("header", ["AccessKey", "accesskey", "ACCESSKEY", "Authorization"])
def test_whoami(client, key, header):
    """The header's letters may be of any case; Bearer works too."""
    value = key("read lease")["AccessKey"]
    answer = client.get(
        "/api/v1/whoami", headers={header: f"Bearer {value}" if header == "Authorization" else value}
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "credential": "caller",
        "slot": "A",
        "state": "live",
        "scopes": ["lease", "read"],
        "expires_at": None,
    }


def test_no_credential_gets_the_realm_alone(client):
    """RFC 6750 3: no error code when nothing was presented."""
    answer = is_problem(client.get("/api/v1/whoami"), 401, "cred.missing")
    assert answer.headers["www-authenticate"] == 'Bearer realm="keyturn"'
    is_problem(
        client.get("/api/v1/whoami", headers={"Authorization": "Basic Y2xpZW50LTE6eA=="}), 401, "cred.missing"
    )


def test_malformed_unknown_and_revoked_are_401(client, key, hub):
    """All are `invalid_token`, the code tells them apart, and none repeats the value."""
    value = key()["AccessKey"]
    stranger = passwords.token("k")
    issued.revoke(hub, "caller")
    for presented, code in (
        (value[:-1], "cred.malformed"),
        (stranger, "cred.unknown"),
        (value, "cred.revoked"),
    ):
        answer = is_problem(client.get("/api/v1/whoami", headers={"AccessKey": presented}), 401, code)
        assert answer.headers["www-authenticate"] == 'Bearer realm="keyturn", error="invalid_token"'
        assert presented not in answer.text


def test_expired_and_not_yet_active_are_401(client, hub):
    """The same form, with codes of their own; the hint says whom to ask."""
    early = issued.issue(hub, "api-key", "early", {}, starts_in_s=3600).value.reveal()
    late = issued.issue(hub, "api-key", "late", {"expires_in_days": "1"})
    hub.store.write(
        lambda tx: tx.run("UPDATE issued_secret SET ends_at = 1 WHERE version_id = ?", late.version_id)
    )
    for value, code in ((early, "cred.not_yet_active"), (late.value.reveal(), "cred.expired")):
        answer = is_problem(client.get("/api/v1/whoami", headers={"AccessKey": value}), 401, code)
        assert answer.headers["www-authenticate"] == 'Bearer realm="keyturn", error="invalid_token"'
        assert answer.json()["hint"]
        assert value not in answer.text
    assert answer.json()["detail"] == "the credential expired on 1970-01-01T00:00:01.000Z"


def test_two_ways_at_once_is_a_bad_request(client, key):
    """RFC 6750 2."""
    value = key()["AccessKey"]
    headers = {"AccessKey": value, "Authorization": f"Bearer {value}"}
    is_problem(client.get("/api/v1/whoami", headers=headers), 400, "cred.twice")


def test_a_key_in_the_url_is_refused_and_reported(client, key, hub):
    """Even when the header is right: it has been shown to every proxy. Its journal says so, without the value."""
    headers = key()
    answer = client.get(f"/api/v1/whoami?access_key={headers['AccessKey']}", headers=headers)
    assert headers["AccessKey"] not in is_problem(answer, 400, "cred.in_url").text
    connection = connections.every(hub)[0]
    told = wait_for(
        lambda: [
            line
            for line in hub.store.read(lambda tx: journal.of_connection(tx, connection.id))
            if line.facts.get("what") == "refused_secret"
        ]
    )
    assert [(line.facts["why"], line.facts["from"]) for line in told] == [("in_url", "testclient")]
    assert headers["AccessKey"] not in repr(told)


@pytest.mark.parametrize("path", ["/api/v1/whoami", "/api/v1/connections", "/api/v1/events"])
@pytest.mark.parametrize("name", ["AccessKey", "accesskey", "access_token", "x"])
def test_no_parameter_of_the_url_is_a_credential(client, key, path, name):
    """Whatever it is called, and where else it is: refused before anything else."""
    value = key()["AccessKey"]
    is_problem(client.get(f"{path}?{name}={value}"), 400, "cred.in_url")
    is_problem(client.get(f"{path}?{name}=%6B{value[1:]}"), 401, "cred.missing")


def test_no_call_is_redirected(client, key):
    """A client would drop its header, or carry it elsewhere."""
    headers = key()
    for path in ("/api/v1/whoami/", "/api/v1/connections/", "/api/v1//whoami", "/api//v1/whoami"):
        answer = client.get(path, headers=headers, follow_redirects=False)
        assert answer.status_code == 404, path


def test_a_scope_too_few_is_403(client, key):
    """With the scope that is missing, in the header the standard names."""
    answer = client.post(
        "/api/v1/leases", json={"connection": "warehouse", "consumer": "etl"}, headers=key("read")
    )
    is_problem(answer, 403, "cred.scope")
    assert 'error="insufficient_scope", scope="lease"' in answer.headers["www-authenticate"]


def test_a_forbidden_address_is_403(client, key):
    """The test client's address is in no network."""
    headers = key(allowed_cidrs="192.0.2.0/24")
    is_problem(client.get("/api/v1/whoami", headers=headers), 403, "cred.ip_denied")


def test_failed_attempts_are_limited_and_working_keys_are_not(client, key):
    """Twenty failures, then 429; the neighbour with a working key notices nothing."""
    headers = key()
    for _ in range(20):
        is_problem(
            client.get("/api/v1/whoami", headers={"AccessKey": passwords.token("k")}), 401, "cred.unknown"
        )
    answer = client.get("/api/v1/whoami", headers={"AccessKey": passwords.token("k")})
    is_problem(answer, 429, "rate.limited")
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert client.get("/api/v1/whoami", headers=headers).status_code == 200


def test_attempts_slide():
    """The window slides, and the memory for addresses is bounded."""
    attempts = Attempts(2, 0.05)
    assert [attempts.fail("a") > 0 for _ in range(4)] == [False, False, True, True]
    assert attempts.fail("b") == 0
    wait_for(lambda: attempts.fail("a") == 0)
    for n in range(5000):
        attempts.fail(str(n))
    assert len(attempts._failed) <= 4096


def test_a_caller_across_a_reissue_over_http(client, key, hub):
    """200 with both in the overlap, with a hint on the old one; 401 for the old afterwards."""
    old = key()
    assert client.get("/api/v1/whoami", headers=old).status_code == 200
    new = {"AccessKey": issued.reissue(hub, "caller", 0.4).value.reveal()}
    assert client.get("/api/v1/whoami", headers=new).json()["slot"] == "B"
    assert client.get("/api/v1/whoami", headers=old).headers["keyturn-credential-state"] == "retiring"
    book = IssuedBook(hub.store, hub.roots)
    wait_for(lambda: not book.look(old["AccessKey"]).accepted)
    is_problem(client.get("/api/v1/whoami", headers=old), 401, "cred.revoked")
    assert client.get("/api/v1/whoami", headers=new).status_code == 200


def notice(answer):
    """What an answer says about the end of the credential that was presented."""
    return {
        name.removeprefix("keyturn-credential-"): value
        for name, value in answer.headers.items()
        if name.startswith("keyturn-credential-")
    }


@pytest.mark.parametrize(
    "path", ["/api/v1/whoami", "/api/v1/connections", "/api/v1/events", "/api/v1/bulk/loads"]
)
def test_a_secret_on_its_way_out_is_told_when_and_what_follows(client, key, hub, path):
    """From its successor's first use on: the end of the overlap as an HTTP date, slot and hint of the successor. Every
    guarded call says it, a refused one too; a secret in force is told nothing."""
    old = key("read bulk", rate_per_minute="5")
    assert notice(client.get(path, headers=old)) == {}
    before = time.time()
    handed = issued.reissue(hub, "caller", 3600)
    assert notice(client.get(path, headers=old)) == {}, "the new one was never used: the old one is in force"
    new = {"AccessKey": handed.value.reveal()}
    assert notice(client.get(path, headers=new)) == {}
    answers = [client.get(path, headers=old) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        told = notice(answer)
        until = parsedate_to_datetime(told.pop("expires")).timestamp()
        assert before + 3600 - 1 <= until <= time.time() + 3600
        assert told == {"state": "retiring", "successor": f'B;hint="{handed.value.reveal()[-4:]}"'}


def test_a_secret_that_ends_by_itself_first_says_so(client, key, hub):
    """Its own expiry lies within the overlap."""
    old = key(expires_in_days="1")
    new = {"AccessKey": issued.reissue(hub, "caller", 20 * 86400).value.reveal()}
    client.get("/api/v1/whoami", headers=new)
    until = parsedate_to_datetime(notice(client.get("/api/v1/whoami", headers=old))["expires"])
    assert until.timestamp() == int(issued.get(hub, "caller").secrets[1].ends_at)


def test_a_rotation_that_is_taken_back_promises_no_end(client, key, hub):
    """The old one is in force again, and nothing is said of it."""
    old = key()
    new = {"AccessKey": issued.reissue(hub, "caller", 3600).value.reveal()}
    client.get("/api/v1/whoami", headers=new)
    assert "expires" in notice(client.get("/api/v1/whoami", headers=old))
    issued.revoke(hub, "caller", "B")
    wait_for(lambda: notice(client.get("/api/v1/whoami", headers=old)) == {})


def test_a_secret_in_force_costs_one_statement(client, key, hub):
    """The notice is looked for only when the secret is on its way out."""
    old = key()
    client.get("/api/v1/whoami", headers=old)
    said = []
    read = type(hub.store).read

    def counted(store, work, **more):
        def traced(tx):
            class Counting:
                def one(self, sql, *params):
                    said.append(sql)
                    return tx.one(sql, *params)

            return work(Counting())

        return read(store, traced, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(hub.store), "read", counted)
        book = IssuedBook(hub.store, hub.roots)
        assert book.look(old["AccessKey"], address="192.0.2.1").accepted
    assert len(said) == 1


def test_unknown_paths_and_methods_are_problems(client):
    """The framework's own answers have the same form."""
    is_problem(client.get("/api/v1/nothing"), 404, "not_found")
    is_problem(client.delete("/api/v1/whoami"), 405, "method_not_allowed")


def test_what_was_typed_is_not_repeated(client, key):
    """A wrong body names the field and not the value."""
    body = {"connection": "warehouse", "consumer": "", "ttl_s": "hunter2-hunter2"}
    answer = is_problem(client.post("/api/v1/leases", json=body, headers=key("lease")), 422, "invalid_input")
    assert "hunter2" not in answer.text
    assert {each["field"] for each in answer.json()["fields"]} == {"consumer", "ttl_s"}


def test_a_huge_body_is_413(client, key):
    """Before anybody parses it."""
    answer = client.post("/api/v1/leases", content=b"x" * (2 * 1024 * 1024), headers=key("lease"))
    is_problem(answer, 413, "too_large")


def test_our_bug_shows_an_incident_id_and_nothing_more(client, key, hub, monkeypatch, caplog):
    """Neither the answer nor the log has the text of an unexpected exception."""
    headers = key()
    token = headers["AccessKey"]

    def fail(*_):
        raise RuntimeError(f"boom {token}")

    monkeypatch.setattr(type(hub.store), "read", fail)
    answer = is_problem(client.get("/api/v1/whoami", headers=headers), 500, "internal")
    assert "boom" not in answer.text + caplog.text
    assert token not in answer.text + caplog.text
    assert answer.json()["request_id"] in caplog.text


def test_openapi(client):
    """The page of the API names the ways to authenticate."""
    page = client.get("/api/v1/openapi.json").json()
    assert set(page["components"]["securitySchemes"]) == {"AccessKey", "Bearer"}
    assert "security" in page["paths"]["/api/v1/whoami"]["get"]
    assert "security" not in page["paths"]["/healthz"]["get"]
    told = page["paths"]["/api/v1/whoami"]["get"]["responses"]["200"]["headers"]
    assert {each["$ref"].rpartition("/")[2] for each in told.values()} == set(page["components"]["headers"])
    assert {"Keyturn-Credential-Expires", "Keyturn-Credential-Successor", "RateLimit"} <= set(told)
    assert client.get("/healthz").json() == {"status": "ok"}
