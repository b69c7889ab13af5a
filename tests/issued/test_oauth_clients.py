# ruff: noqa: F811 - fixtures are imported
"""OAuth clients for programs: tokens for a secret, what they may do, and that they die with it."""

import base64
import threading
import time
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
from tests.issued.oauth_world import Registered, _quick_hashes, register, world  # noqa: F401 - fixtures
from tests.waiting import wait_for

from keyturn.errors import Conflict, InvalidInput
from keyturn.issued.book import Code, IssuedBook
from keyturn.issued.kinds import KINDS
from keyturn.keymaking import passwords
from keyturn.model.card import GapClass
from keyturn.model.run import RunState
from keyturn.operations import issued, leaks, runs
from keyturn.storage import journal

CLIENTS = [("m2m", "read"), ("bulk", "bulk"), ("events", "events:write")]
BASIC = 'Basic realm="keyturn"'


def is_error(answer, status, code):
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["content-type"] == "application/json"
    return answer


def ended(hub, run):
    return wait_for(lambda: (found := runs.get(hub, run.id)).ended_at and found)


@pytest.mark.parametrize(("kind", "scope"), CLIENTS)
def test_a_token_for_a_secret(world, kind, scope):
    """The answer is RFC 6749's, the token has the hub's format, and it works."""
    client = register(world.hub, kind)
    assert passwords.parse(client.secret).kind == "s"
    answer = world.token(client)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, scope)
    assert passwords.parse(body["access_token"]).kind == "t"
    seen = world.whoami(body["access_token"])
    assert seen.status_code == 200
    assert (seen.json()["credential"], seen.json()["scopes"]) == (client.name, [scope])
    assert seen.json()["client_id"] == client.id


def test_a_bulk_key_is_a_key_with_its_own_letter(world):
    """Row 8: scope bulk, prefix b, and nothing else is offered."""
    handed = issued.issue(world.hub, "bulk-key", "loader", {})
    value = handed.value.reveal()
    assert passwords.parse(value).kind == "b"
    seen = world.http.get("/api/v1/whoami", headers={"accesskey": value})
    assert seen.json()["scopes"] == ["bulk"]
    read = world.http.get("/api/v1/connections", headers={"accesskey": value})
    assert (read.status_code, read.json()["code"]) == (403, "cred.scope")
    with pytest.raises(InvalidInput):
        issued.issue(world.hub, "bulk-key", "other", {"scopes": "read"})


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind.flows])
def test_a_secret_alone_opens_no_door(world, kind):
    """A client secret is for the token endpoint; as a bearer it is unknown."""
    client = register(world.hub, kind)
    for headers in ({"AccessKey": client.secret}, {"Authorization": f"Bearer {client.secret}"}):
        answer = world.http.get("/api/v1/whoami", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "cred.unknown")


def test_basic_is_decoded_as_the_standard_says(world):
    """RFC 6749 2.3.1: id and secret are form-urlencoded first; so are clients that leave that out."""
    client = register(world.hub)
    odd = "".join(f"%{ord(c):02X}" for c in client.secret)
    coded = base64.b64encode(f"{quote(client.id)}:{odd}".encode()).decode()
    data = {"grant_type": "client_credentials"}
    assert world.post("/oauth/token", data, {"Authorization": f"bAsIc {coded}"}).status_code == 200
    assert world.post("/oauth/token", {**data, **client.posted}).status_code == 200


def test_scopes_narrow_and_never_widen(world):
    """A subset is granted as asked; anything more is invalid_scope; the door looks at the token's own."""
    client = register(world.hub, scopes="read lease")
    assert world.token(client).json()["scope"] == "lease read"
    narrow = world.token(client, "read").json()
    assert narrow["scope"] == "read"
    assert world.token(client, "lease:warehouse").json()["scope"] == "lease:warehouse"
    for wide in ("bulk", "read bulk", "admin"):
        is_error(world.token(client, wide), 400, "invalid_scope")
    bearer = {"Authorization": f"Bearer {narrow['access_token']}"}
    assert world.http.get("/api/v1/connections", headers=bearer).status_code == 200
    answer = world.http.post("/api/v1/leases", json={"connection": "x", "consumer": "y"}, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "cred.scope")
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_errors_of_the_token_endpoint(world):
    """The table of RFC 6749 5.2, headers included; nothing sent is repeated."""
    client, app = register(world.hub), register(world.hub, "oauth-app", "portal")
    good = {"grant_type": "client_credentials"}
    post = world.post
    is_error(post("/oauth/token", {}, client.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {"grant_type": "", "scope": "read"}, client.basic), 400, "invalid_request")
    is_error(
        post("/oauth/token", {"grant_type": "password", "username": "hunter2"}, client.basic),
        400,
        "unsupported_grant_type",
    )
    is_error(post("/oauth/token", {"grant_type": "implicit"}, client.basic), 400, "unsupported_grant_type")
    is_error(post("/oauth/token", good, app.basic), 400, "unauthorized_client")
    is_error(
        post("/oauth/token", {"grant_type": "authorization_code"}, client.basic), 400, "unauthorized_client"
    )
    is_error(post("/oauth/token", {"grant_type": "refresh_token"}, client.basic), 400, "unauthorized_client")
    is_error(post("/oauth/token", {"grant_type": "authorization_code"}, app.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {"grant_type": "refresh_token"}, app.basic), 400, "invalid_request")
    twice = "grant_type=client_credentials&scope=read&scope=read"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    raw = world.http.post("/oauth/token", content=twice, headers={**client.basic, **form})
    is_error(raw, 400, "invalid_request")
    is_error(post("/oauth/token", {**good, **client.posted}, client.basic), 400, "invalid_request")
    is_error(world.http.post("/oauth/token", json=good, headers=client.basic), 400, "invalid_request")
    is_error(post("/oauth/token?client_secret=" + client.secret, good, client.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {**good, "client_id": app.id}, client.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {**good, "scope": "re\x00ad"}, client.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {**good, "x": "y" * 5000}, client.basic), 400, "invalid_request")
    is_error(post("/oauth/token", {f"p{n}": "v" for n in range(99)}, client.basic), 400, "invalid_request")
    assert world.http.get("/oauth/token").status_code == 405


def test_unknown_and_wrong_look_alike(world):
    """Unknown client, wrong secret, another client's secret, an ended one: byte for byte the same, with a challenge when
    Basic was tried."""
    client, other = register(world.hub), register(world.hub, name="other")
    issued.revoke(world.hub, "other")
    stranger = passwords.token("s")
    bodies = set()
    for pair in (
        Registered(passwords.client_id(), client.secret, ""),
        Registered(passwords.client_id(), stranger, ""),
        Registered(client.id, stranger, ""),
        Registered(client.id, other.secret, ""),
        Registered(other.id, other.secret, ""),
        Registered(client.id, client.secret[:-1], ""),
        Registered("", client.secret, ""),
    ):
        answer = is_error(world.token(pair), 401, "invalid_client")
        assert answer.headers["www-authenticate"] == BASIC
        bodies.add(answer.text)
        posted = world.post("/oauth/token", {"grant_type": "client_credentials", **pair.posted})
        bodies.add(is_error(posted, 401, "invalid_client").text)
    assert len(bodies) == 1
    assert world.token(client).status_code == 200


def test_unknown_and_wrong_take_the_same_way(world, monkeypatch):
    """One digest and one look-up each, whether the client exists or not: there is nothing to measure."""
    client = register(world.hub)
    seen = []

    def watch(kind, name, said):
        real = getattr(kind, name)

        def watched(*args, **kwargs):
            if threading.current_thread().name.startswith(
                "AnyIO"
            ):  # who answers; the hub's own threads read too
                seen.append(said)
            return real(*args, **kwargs)

        monkeypatch.setattr(kind, name, watched)

    watch(type(world.hub.store), "read", "read")
    watch(type(world.hub.roots), "token_digest", "digest")
    traces = []
    for pair in (
        Registered(client.id, passwords.token("s"), ""),
        Registered(passwords.client_id(), passwords.token("s"), ""),
    ):
        seen.clear()
        is_error(world.token(pair), 401, "invalid_client")
        traces.append(list(seen))
    assert traces[0] == traces[1] == ["digest", "read"]
    seen.clear()
    is_error(world.token(Registered(client.id, passwords.token("s")[:-1] + "!", "")), 401, "invalid_client")
    assert seen == []  # a wrong checksum never reaches the database


def test_guessing_is_limited_and_the_client_is_never_locked(world):
    """Twenty failures from an address, then 429; the right secret still works (7: never lock the credential)."""
    client = register(world.hub)
    for _ in range(20):
        is_error(world.token(Registered(client.id, passwords.token("s"), "")), 401, "invalid_client")
    answer = is_error(world.token(Registered(client.id, passwords.token("s"), "")), 429, "invalid_client")
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert world.token(client).status_code == 200


def test_a_client_made_for_later_is_no_client_yet(world):
    """At the token endpoint like any that is not let in; the next call after its hour gets a token."""
    handed = issued.issue(world.hub, "m2m", "etl", {"scopes": "read"}, starts_in_s=3600.0)
    client = Registered(handed.client_id, handed.value.reveal(), "etl")
    is_error(world.token(client), 401, "invalid_client")
    world.hub.store.write(lambda tx: tx.run("UPDATE issued_secret SET starts_at = 1"))
    assert world.token(client).status_code == 200


def test_allowed_networks_hold_for_the_client_and_its_tokens(world):
    """The test client's address is in no network."""
    client = register(world.hub, allowed_cidrs="192.0.2.0/24")
    is_error(world.token(client), 400, "unauthorized_client")


def test_the_secret_is_rotated_in_place(world):
    """The id stays; both secrets work in the overlap; a third is refused; then the old one and its tokens die, on every
    worker within a second, and those of the new one live on."""
    hub, client = world.hub, register(world.hub, scopes="read")
    old_token = world.token(client).json()["access_token"]
    handed = issued.reissue(hub, "etl", 0.6)
    assert handed.client_id == client.id
    fresh = Registered(client.id, handed.value.reveal(), "etl")
    with pytest.raises(Conflict, match="reissued already"):
        issued.reissue(hub, "etl", 60)
    new_token = world.token(fresh).json()["access_token"]
    assert world.token(client).status_code == 200
    assert world.whoami(old_token).status_code == 200
    other = IssuedBook(hub.store, hub.roots)  # another worker's
    wait_for(lambda: not other.look(old_token).accepted)
    at = time.monotonic()
    is_error(world.token(client), 401, "invalid_client")
    answer = world.whoami(old_token)
    assert (answer.status_code, answer.json()["code"]) == (401, "cred.revoked")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert time.monotonic() - at < 1.0
    assert world.introspect(fresh, old_token).json() == {"active": False}
    assert world.whoami(new_token).status_code == 200
    run = ended(hub, handed.run)
    assert (run.state, run.proof) == (RunState.COMPLETE, "D2")
    other.close()


def test_a_client_whose_secret_is_on_its_way_out_is_told(world):
    """Where it shows the secret, and at every call with a token that was made with it; the new ones are told nothing."""
    hub, client = world.hub, register(world.hub)
    old_token = world.token(client).json()["access_token"]
    handed = issued.reissue(hub, "etl", 3600)
    fresh = Registered(client.id, handed.value.reveal(), "")
    new = [made := world.token(fresh), world.whoami(made.json()["access_token"])]
    assert all("keyturn-credential-state" not in answer.headers for answer in new)
    old = [world.token(client), world.introspect(client, old_token), world.whoami(old_token)]
    for answer in old:
        assert answer.status_code == 200
        assert answer.headers["keyturn-credential-state"] == "retiring"
        assert answer.headers["keyturn-credential-successor"] == f'B;hint="{fresh.secret[-4:]}"'
        until = parsedate_to_datetime(answer.headers["keyturn-credential-expires"]).timestamp()
        assert 3500 < until - time.time() <= 3600
    assert world.token(client).headers["cache-control"] == "no-store"


def test_a_secret_never_used_does_not_end_the_old(world):
    """S8: until somebody asked for a token with the new one, the old one serves on; a token call opens the gate."""
    hub, client = world.hub, register(world.hub)
    world.token(client)
    handed = issued.reissue(hub, "etl", 0)
    wait_for(lambda: "never used" in runs.get(hub, handed.run.id).waiting_for)
    assert world.token(client).status_code == 200
    assert world.token(Registered(client.id, handed.value.reveal(), "")).status_code == 200
    assert ended(hub, handed.run).state is RunState.COMPLETE
    is_error(world.token(client), 401, "invalid_client")


def test_a_call_with_a_token_is_a_use_of_its_secret(world):
    """Whoever still calls with a token of the old secret keeps it for its overlap: it is not silent yet."""
    hub, client = world.hub, register(world.hub)
    token = world.token(client).json()["access_token"]
    until = time.monotonic() + 3.0  # it is kept for twice the overlap at most, from the reissue on
    handed = issued.reissue(hub, "etl", 2.0)
    world.token(Registered(client.id, handed.value.reveal(), ""))
    while time.monotonic() < until:
        assert world.whoami(token).status_code == 200
        time.sleep(0.05)
    wait_for(lambda: world.whoami(token).status_code == 401)


def test_revoking_ends_secrets_and_tokens_at_once(world):
    """The brake is for tokens too: refused when the call returns."""
    hub, client = world.hub, register(world.hub)
    token = world.token(client).json()["access_token"]
    run = issued.revoke(hub, "etl", reason="leaked")
    assert world.whoami(token).status_code == 401
    is_error(world.token(client), 401, "invalid_client")
    assert ended(hub, run).state is RunState.COMPLETE
    again = issued.reissue(hub, "etl", 0)
    assert again.client_id == client.id
    assert world.token(Registered(client.id, again.value.reveal(), "")).status_code == 200
    assert world.whoami(token).status_code == 401


def test_a_token_in_the_url_is_refused_and_reported(world):
    """As a key: on the record of its client, without the value."""
    client = register(world.hub)
    token = world.token(client).json()["access_token"]
    answer = world.http.get(f"/api/v1/whoami?access_token={token}")
    assert (answer.status_code, answer.json()["code"]) == (400, "cred.in_url")
    connection = issued.get(world.hub, "etl").connection
    told = wait_for(
        lambda: [
            line
            for line in world.hub.store.read(lambda tx: journal.of_connection(tx, connection.id))
            if line.facts.get("what") == "refused_secret"
        ]
    )
    assert [line.facts["why"] for line in told] == ["in_url"]
    assert token not in repr(told)


def test_a_leaked_access_token_ends_alone(world):
    """Its client's secret did not leak: that, and other tokens, go on; the report is on record, once."""
    hub, client = world.hub, register(world.hub)
    token, other = (world.token(client).json()["access_token"] for _ in range(2))
    dry = leaks.report(hub, f"Authorization: Bearer {token}", dry_run=True)
    assert [(each.name, each.what, each.action) for each in dry.known] == [
        ("etl", "access token", "end the token")
    ]
    assert world.whoami(token).status_code == 200
    found = leaks.report(hub, f"Authorization: Bearer {token}", source="scan")
    assert (found.live, found.known[0].run_id, found.known[0].error) == (1, "", "")
    assert world.whoami(token).json()["code"] == "cred.revoked"
    assert world.whoami(other).status_code == 200
    assert world.token(client).status_code == 200
    again = leaks.report(hub, token, source="scan")
    assert (again.live, again.known[0].state) == (0, "ended")
    assert len(leaks.latest(hub)) == 1
    assert token not in repr((dry, found, again))


def test_a_leaked_secret_ends_its_tokens_too(world):
    """Both are refused when the report is answered."""
    client = register(world.hub)
    token = world.token(client).json()["access_token"]
    leaks.report(world.hub, f"secret={client.secret}")
    assert world.whoami(token).json()["code"] == "cred.revoked"
    is_error(world.token(client), 401, "invalid_client")


@pytest.mark.parametrize("kind", ["m2m", "bulk", "events", "oauth-app"])
def test_made_anew_with_a_gap_that_the_plan_names(world, kind):
    """Delete and recreate: another id, nothing of the old one works, and the plan says so beforehand."""
    hub, client = world.hub, register(world.hub, kind, "it")
    token = world.token(client).json().get("access_token", passwords.token("t"))
    plan = issued.recreate_plan(hub, "it")
    assert plan.gap_class is GapClass.Z3
    assert any("gap" in warning for warning in plan.warnings)
    assert all(step.kind.value != "drain" for step in plan.steps)
    assert client.id not in str(plan.as_json())
    handed = issued.recreate(hub, "it")
    assert handed.client_id != client.id
    run = ended(hub, handed.run)
    assert (run.state, run.proof, run.plan.gap_class) == (RunState.COMPLETE, "D2", GapClass.Z3)
    is_error(world.token(client), 401, "invalid_client")
    is_error(world.token(Registered(client.id, handed.value.reveal(), "")), 401, "invalid_client")
    assert world.whoami(token).status_code == 401
    fresh = Registered(handed.client_id, handed.value.reveal(), "it")
    if kind == "oauth-app":
        is_error(world.token(fresh), 400, "unauthorized_client")
    else:
        assert world.token(fresh).status_code == 200
    assert issued.get(hub, "it").client_id == handed.client_id
    after = issued.reissue(hub, "it", 60)
    assert after.client_id == handed.client_id  # an ordinary rotation keeps the new one


def test_a_key_has_no_id_to_change(world):
    """Recreate is for clients."""
    issued.issue(world.hub, "api-key", "k", {})
    for call in (issued.recreate, issued.recreate_plan):
        with pytest.raises(InvalidInput, match="no client id"):
            call(world.hub, "k")


def test_revocation(world):
    """RFC 7009: 200 for one's own, for an unknown and a dead one; 401 without the secret; not another client's."""
    client, other = register(world.hub), register(world.hub, name="other")
    token = world.token(client).json()["access_token"]
    is_error(world.revoke(Registered(client.id, passwords.token("s"), ""), token), 401, "invalid_client")
    is_error(world.revoke(other, token), 400, "invalid_grant")
    assert world.whoami(token).status_code == 200
    assert world.revoke(client, token).status_code == 200
    assert world.whoami(token).status_code == 401
    for dead in (token, passwords.token("t"), passwords.token("r"), "rubbish", client.secret):
        assert world.revoke(client, dead).status_code == 200
    assert world.token(client).status_code == 200  # naming a secret there ends nothing
    is_error(world.post("/oauth/revoke", {}, client.basic), 400, "invalid_request")
    hinted = world.post("/oauth/revoke", {"token": token, "token_type_hint": "id_token"}, client.basic)
    is_error(hinted, 400, "unsupported_token_type")


def test_introspection(world):
    """RFC 7662: what a live one is; of anything else exactly that it is not active."""
    client, other = register(world.hub), register(world.hub, name="other")
    judge = register(world.hub, name="judge", scopes="introspect")
    token = world.token(client, "read").json()["access_token"]
    for asker in (client, judge):
        answer = world.introspect(asker, token)
        assert answer.headers["cache-control"] == "no-store"
        found = answer.json()
        assert {k: found[k] for k in ("active", "scope", "client_id", "sub", "token_type", "iss", "aud")} == {
            "active": True,
            "scope": "read",
            "client_id": client.id,
            "sub": client.id,
            "token_type": "Bearer",
            "iss": world.base,
            "aud": world.base,
        }
        assert 3590 <= found["exp"] - time.time() <= 3601
        assert found["exp"] - found["iat"] == 3600
        assert found["jti"]
    for asker, dead in (
        (other, token),
        (judge, passwords.token("t")),
        (judge, "rubbish"),
        (judge, client.secret),
        (judge, passwords.token("r")),
    ):
        answer = world.introspect(asker, dead)
        assert (answer.status_code, answer.json()) == (200, {"active": False})
    world.revoke(client, token)
    assert world.introspect(judge, token).json() == {"active": False}
    is_error(world.introspect(Registered(client.id, passwords.token("s"), ""), token), 401, "invalid_client")
    is_error(world.post("/oauth/introspect", {"token": token}), 401, "invalid_client")


def test_a_token_expires_and_stays_expired(world, monkeypatch):
    """Clock jumps do not revive one that a secret's end or revocation killed; its own time is looked at with every call."""
    client = register(world.hub, token_lifetime_s="300")
    body = world.token(client).json()
    assert body["expires_in"] == 300
    token, now = body["access_token"], time.time()
    book = IssuedBook(world.hub.store, world.hub.roots, lambda: now + 299)
    assert book.look(token).accepted
    late = IssuedBook(world.hub.store, world.hub.roots, lambda: now + 301)
    assert late.look(token).code is Code.EXPIRED
    issued.revoke(world.hub, "etl")
    for jump in (-3600, 0, 3600):
        jumped = IssuedBook(world.hub.store, world.hub.roots, lambda jump=jump: now + jump)
        assert not jumped.look(token).accepted
    monkeypatch.undo()


@pytest.mark.parametrize(
    "values",
    [
        {"token_lifetime_s": "299"},
        {"token_lifetime_s": "86401"},
        {"scopes": "READ!"},
        {"allowed_cidrs": "300.1.1.1"},
        {"nonsense": "1"},
    ],
)
def test_wrong_settings_are_named(world, values):
    """Nothing is issued."""
    with pytest.raises(InvalidInput) as caught:
        register(world.hub, **values)
    assert caught.value.facts["field"] == next(iter(values))
    assert issued.every(world.hub) == []


def test_metadata(world):
    """RFC 8414: every endpoint it names is there, and nothing is offered that is not done."""
    found = world.http.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == world.base
    assert found["grant_types_supported"] == ["authorization_code", "client_credentials", "refresh_token"]
    assert found["response_types_supported"] == ["code"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        answer = world.http.post(found[name], data={})
        assert answer.json()["error"], name
    page = world.http.get("/api/v1/openapi.json").json()
    assert "security" not in page["paths"]["/oauth/token"]["post"]


def test_what_is_kept_is_no_value(world, tmp_path):
    """Neither secret nor tokens are anywhere in the database, once the ten minutes to look again are over."""
    client = register(world.hub)
    token = world.token(client).json()["access_token"]
    world.introspect(client, token)
    tables = [
        row[0]
        for row in world.hub.store.read(
            lambda tx: (
                tx.all("SELECT DISTINCT name FROM sqlite_master WHERE type = 'table'")
                if world.hub.store.dialect == "sqlite"
                else tx.all("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            )
        )
    ]
    text = str([world.hub.store.read(lambda tx, t=t: tx.all(f"SELECT * FROM {t}")) for t in tables])
    assert "oauth_token" in tables
    for value in (client.secret, token):
        assert value not in text
        assert value[5:48] not in text
