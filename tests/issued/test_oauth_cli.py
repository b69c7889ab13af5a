# ruff: noqa: F811 - fixtures are imported
"""OAuth clients on the command line, and what their tokens open behind the endpoints of others."""

import logging

import pytest
from tests.faces.conftest import Line
from tests.issued.oauth_world import (  # noqa: F401 - fixtures
    LOCAL,
    Registered,
    _quick_hashes,
    person,
    register,
    world,
)
from tests.issued.test_oauth_clients import is_error
from tests.waiting import wait_for

from keyturn.issued.book import IssuedBook
from keyturn.issued.oauth import OauthBook
from keyturn.issued.oauth_server import OauthServer
from keyturn.keymaking import passwords
from keyturn.operations import grants, issued, people
from keyturn.operations import register as where
from keyturn.operations.rights import Role


@pytest.fixture
def keyturn(tmp_path):
    line = Line(tmp_path)
    line("init")
    return line


def test_a_client_is_issued_reissued_and_made_anew(keyturn):
    """The secret goes to stdout alone, the id beside it; a rotation keeps the id, making it anew does not."""
    made = keyturn("issue", "m2m", "--name", "etl", "--set", "scopes=read lease:warehouse")
    secret = made.stdout.strip()
    assert passwords.parse(secret).kind == "s"
    first = keyturn.json("issued")[0]["client_id"]
    assert first in made.stderr
    assert secret not in made.stderr
    again = keyturn.json("reissue", "etl", "--overlap", "1h")
    assert again["client_id"] == first
    assert passwords.parse(again["value"]).kind == "s"
    keyturn("revoke-issued", "etl", "--yes")
    refused = keyturn("reissue", "etl", "--recreate", code=2)
    assert "--yes" in refused.stderr
    anew = keyturn.json("reissue", "etl", "--recreate", "--yes")
    assert anew["client_id"] not in {first, ""}
    shown = keyturn("issued").stdout + keyturn("show", "etl").stdout + keyturn("history", "etl").stdout
    for value in (secret, again["value"], anew["value"]):
        assert value not in shown


def test_many_are_ended_at_once(keyturn):
    """Listed with whom it hits, and only with a yes; one or many, not both."""
    for name in ("a", "b"):
        keyturn("issue", "api-key", "--name", name)
    keyturn("issue", "m2m", "--name", "etl")
    refused = keyturn("revoke-issued", "--kind", "api-key", code=2)
    assert "--yes" in refused.stderr
    assert "b (api-key) A" in refused.stderr
    done = keyturn.json("revoke-issued", "--kind", "api-key", "--yes", "--reason", "incident 7")
    assert [(each["name"], each["slots"], bool(each["run"])) for each in done] == [
        ("a", ["A"], True),
        ("b", ["A"], True),
    ]
    states = {each["name"]: each["secrets"][0]["state"] for each in keyturn.json("issued")}
    assert states == {"a": "revoked", "b": "revoked", "etl": "live"}
    assert "Nothing of that" in keyturn("revoke-issued", "--before", "2020-01-01", "--yes").stdout
    for wrong in (["a", "--kind", "m2m"], [], ["--kind", "m2m", "--slot", "A"], ["--before", "soon"]):
        keyturn("revoke-issued", *wrong, "--yes", code=2)


def test_one_made_for_later(keyturn):
    """Listed as pending with its start; ended before it began; making a client anew has no later."""
    keyturn("issue", "m2m", "--name", "etl", "--starts-in", "7d")
    secret = keyturn.json("issued")[0]["secrets"][0]
    assert secret["state"] == "pending"
    assert secret["starts"] > secret["created"]
    refused = keyturn("reissue", "etl", "--recreate", "--yes", "--starts-in", "1h", code=2)
    assert "--starts-in" in refused.stderr
    assert "366 days" in keyturn("issue", "api-key", "--name", "x", "--starts-in", "9000d", code=2).stderr
    keyturn("revoke-issued", "etl", "--yes")
    assert keyturn.json("issued")[0]["secrets"][0]["state"] == "revoked"


def test_making_it_anew_names_the_gap_first(keyturn):
    """Nothing is started before somebody said yes, and the plan's warning is what they read."""
    keyturn("issue", "bulk", "--name", "loader")
    before = keyturn.json("issued")[0]
    refused = keyturn("reissue", "loader", "--recreate", code=2)
    assert "There is a gap" in refused.stderr
    assert keyturn.json("issued")[0] == before
    anew = keyturn.json("reissue", "loader", "--recreate", "--yes")
    assert anew["client_id"] != before["client_id"]
    states = {s["state"] for s in keyturn.json("issued")[0]["secrets"] if s["version"] != anew["version"]}
    assert states == {"revoked"}
    keyturn("issue", "api-key", "--name", "k")
    assert "no client id" in keyturn("reissue", "k", "--recreate", "--yes", code=2).stderr


def test_whoever_uses_it_is_named_before_it_changes(keyturn):
    """Holders and callers; without an overlap somebody has to say yes, and nothing was started before."""
    keyturn("issue", "api-key", "--name", "crm")
    keyturn("holders", "crm", "--add", "Acme", "--contact", "ops@acme.example")
    before = keyturn.json("issued")
    refused = keyturn("reissue", "crm", "--overlap", "0s", code=2)
    assert "ops@acme.example" in refused.stderr
    assert keyturn.json("issued") == before
    assert "ops@acme.example" in keyturn("revoke-issued", "crm", code=2).stderr
    assert keyturn.json("issued") == before
    again = keyturn("reissue", "crm", "--overlap", "0s", "--yes")
    assert "ops@acme.example" in again.stderr
    assert len(keyturn.json("issued")[0]["secrets"]) == 2


def test_a_secret_field_is_not_typed(keyturn):
    """A bucket's steward has a secret: as `--set` it would stay in the shell's history."""
    secret = "ktlabNotToBeTypedOnACommandLine0000000000"
    refused = keyturn(
        "issue", "hub-bucket", "--name", "x", "--set", f"admin_secret_access_key={secret}", code=2
    )
    assert "--secret" in refused.stderr
    assert secret not in refused.stderr


def test_a_public_application_shows_its_id(keyturn):
    """There is nothing else to show."""
    settings = ("--set", "callback_urls=https://portal.example.com/cb", "--set", "client_type=public")
    made = keyturn("issue", "oauth-app", "--name", "portal", *settings)
    assert made.stdout.strip() == keyturn.json("issued")[0]["client_id"]
    assert keyturn.json("issue", "oauth-app", "--name", "other", *settings)["value"] is None
    assert "public client" in keyturn("reissue", "portal", code=2).stderr
    wrong = keyturn(
        "issue", "oauth-app", "--name", "third", "--set", "callback_urls=http://x.example.com/cb", code=2
    )
    assert "callback_urls" in wrong.stderr


def test_grants_are_listed_and_ended(keyturn):
    """What people allowed; none at first, and an unknown one is not found."""
    assert keyturn.json("grants") == []
    assert "Nobody allowed" in keyturn("grants").stdout
    assert "nothing of that name" in keyturn("grants", "--end", "grt_none", "--yes", code=2).stderr


def test_an_administrator_ends_what_somebody_allowed(world):
    """By its id, for whoever left."""
    person(world.hub)
    app = register(world.hub, "oauth-app", "portal")
    body = world.signed_up(app)
    found = grants.allowed(world.hub)[0]
    grants.take_back(world.hub, found.id, by="ada")
    grants.take_back(world.hub, found.id, by="ada")
    assert world.whoami(body["access_token"]).status_code == 401
    assert grants.allowed(world.hub) == []


def test_an_owner_who_leaves_takes_no_client_along(world):
    """Acceptance 11: a client belongs to its service, not to whoever made it."""
    person(world.hub, "boss", Role.ADMIN)
    maker = person(world.hub, "maker", Role.ADMIN)
    handed = issued.issue(world.hub, "m2m", "etl", {}, who="maker")
    client = Registered(handed.client_id, handed.value.reveal(), "etl")
    token = world.token(client).json()["access_token"]
    people.switch(world.hub, LOCAL, maker.id, on=False)
    assert world.whoami(token).status_code == 200
    assert world.token(client).status_code == 200
    assert "its owner maker has left: name another one" in where.findings(world.hub)["etl"]


def test_tokens_open_the_doors_of_their_kind(world):
    """A bulk client loads, a publisher sends events; neither does the other's, and neither reads."""
    doors = {
        "bulk": lambda auth: world.http.post(
            "/api/v1/bulk/people", content=b"name\nada\n", headers={**auth, "Content-Type": "text/csv"}
        ),
        "events": lambda auth: world.http.post(
            "/api/v1/events", json={"id": "e-1", "type": "thing.happened", "data": {}}, headers=auth
        ),
        "read": lambda auth: world.http.get("/api/v1/connections", headers=auth),
    }
    for kind in ("bulk", "events"):
        client = register(world.hub, kind, kind)
        auth = {"Authorization": f"Bearer {world.token(client).json()['access_token']}"}
        for door, knock in doors.items():
            answer = knock(auth)
            assert (answer.status_code in {200, 201, 202}) == (door == kind), (kind, door, answer.text)
            if door != kind:
                assert answer.status_code == 403


def test_a_load_goes_on_over_a_rotation(world):
    """Acceptance 9: begun with a token of the old secret, which is ended; finished with one of the new. No line is lost."""
    client = register(world.hub, "bulk", "loader")

    def bearer(value):
        return {"Authorization": f"Bearer {value.json()['access_token']}", "Content-Type": "text/csv"}

    old = bearer(world.token(client))
    first = b"name\nada\n"
    begun = world.http.post("/api/v1/bulk/people", content=first, headers={**old, "Upload-Complete": "?0"})
    assert begun.status_code == 202, begun.text
    load = f"/api/v1/bulk/loads/{begun.json()['id']}"
    handed = issued.reissue(world.hub, "loader", 3600)
    new = bearer(world.token(Registered(client.id, handed.value.reveal(), "")))
    issued.revoke(world.hub, "loader", "A")
    piece = {
        "Content-Type": "application/partial-upload",
        "Upload-Offset": str(len(first)),
        "Upload-Complete": "?1",
    }
    refused = world.http.patch(load, content=b"eve\n", headers={**old, **piece})
    assert refused.status_code == 401
    taken = world.http.patch(load, content=b"eve\n", headers={**new, **piece})
    assert taken.status_code == 202, taken.text
    seen = wait_for(lambda: (found := world.http.get(load, headers=new).json())["state"] == "done" and found)
    assert (seen["accepted"], seen["rejected"]) == (2, 0)
    other = register(world.hub, "bulk", "other")
    assert world.http.get(load, headers=bearer(world.token(other))).status_code == 404


def test_plain_http_is_refused_where_it_is_not_loopback(world):
    """A hub that is public without TLS gives no token and names no endpoint."""
    client = register(world.hub)
    server = OauthServer(OauthBook(IssuedBook(world.hub.store, world.hub.roots)), "http://hub.example.com")
    form = [("grant_type", "client_credentials"), ("client_id", client.id), ("client_secret", client.secret)]
    answer = server.answer("/oauth/token", form, "", _nobody())
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert "TLS" in answer.body["error_description"]
    with pytest.raises(ValueError, match="https"):
        server.metadata()
    tls = OauthServer(server.book, "https://hub.example.com")
    assert tls.answer("/oauth/token", form, "", _nobody()).status == 200
    assert tls.metadata()["token_endpoint"] == "https://hub.example.com/oauth/token"


def _nobody():
    from keyturn.issued.oauth_server import Caller

    return Caller()


def test_no_log_holds_a_value(world, caplog):
    """At the chattiest level: neither secrets, codes, verifiers nor tokens."""
    caplog.set_level(logging.DEBUG)
    person(world.hub)
    program, app = register(world.hub), register(world.hub, "oauth-app", "portal")
    token = world.token(program).json()["access_token"]
    is_error(world.token(Registered(program.id, app.secret, "")), 401, "invalid_client")
    code, verifier = world.code(app)
    body = world.redeem(app, code, verifier).json()
    fresh = world.refresh(app, body["refresh_token"]).json()
    world.introspect(program, token)
    world.revoke(app, fresh["refresh_token"])
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    for value in (
        program.secret,
        app.secret,
        token,
        code,
        verifier,
        *(v for b in (body, fresh) for k, v in b.items() if k.endswith("_token")),
    ):
        assert value not in ours
