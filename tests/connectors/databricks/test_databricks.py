"""Databricks' connector against the lab's stand-in: what is never guessed, never widened and never taken for a no."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from keyturn.connectors.databricks.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.standin import running
from keyturn_lab.vendors.databricks import STANDIN

NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))
OAUTH, USER = capabilities("oauth", {}), capabilities("user", {})
ME = "integration@acme.example"


class There:
    """The stand-in with one secret or token of the connection, and an administrator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.world = httpx2.get(f"{url}/_lab/world").json()

    def lab(self, what: str, body: object) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def name(self, principal: str) -> str:
        return str(self.world["principals"][principal]["application_id"])

    def secret(self, principal: str = "gainsight", **more: Any) -> Material:
        made = self.lab("make", {"kind": "secret", "principal": principal, **more})
        return Material(
            {"client_id": self.name(principal), "client_secret": made["secret"], "secret_id": made["id"]},
            frozenset({"client_id", "secret_id"}),
        )

    def token(self, principal: str = ME, **more: Any) -> Material:
        made = self.lab("make", {"kind": "token", "principal": principal, **more})
        return Material({"token": made["token_value"], "token_id": made["token_info"]["token_id"]})

    def access(self, acting: Material | None, admin: Material | None = None, **settings: Any) -> Access:
        values = {"host": self.url, "client_id": self.name("gainsight"), "user_name": ME, **settings}
        return Access(values, acting, admin, 10.0, NETWORK, "keyturn-test-1")

    def alive(self) -> set[str]:
        return {each["id"] for each in httpx2.get(f"{self.url}/_lab/alive").json()}

    def scopes(self) -> dict[str, list[str]]:
        return {e["id"]: e["facts"].get("scopes") for e in httpx2.get(f"{self.url}/_lab/alive").json()}

    def calls(self) -> list[str]:
        return [each["op"] for each in httpx2.get(f"{self.url}/_lab/log").json()]


@pytest.fixture
def there() -> Iterator[There]:
    with running(STANDIN.create_app()) as url:
        found = There(url)
        found.lab("dials", {"latency_s": 0})
        yield found


def without(material: Material, part: str) -> Material:
    return Material({k: v for k, v in material.items() if k != part}, material.public)


def test_a_new_secret_has_the_scopes_of_the_one_in_use(there: There) -> None:
    """Never more: neighbours with other scopes do not matter, and the life is what was asked for."""
    there.secret(scopes=["all-apis"])
    mine, admin = there.secret(scopes=["sql", "iam.groups:read"]), there.secret("rotator")
    access = there.access(mine, admin, lifetime_days=30)
    assert OAUTH.issuer
    made = OAUTH.issuer.read(access, OAUTH.issuer.issue(access, Ref()))
    assert there.scopes()[made.ref.id] == ["sql", "iam.groups:read"]
    assert made.expires_at is not None
    now = httpx2.post(f"{there.url}/_lab/clock", json={}).json()["now"]
    assert made.expires_at - now == pytest.approx(30 * 86_400, abs=60)


def test_scopes_are_not_guessed(there: There) -> None:
    """Which secret is in use cannot be told and they differ: nothing is made."""
    there.secret(scopes=["sql"])
    mine, admin = there.secret(scopes=["all-apis"]), there.secret("rotator")
    before = there.alive()
    assert OAUTH.issuer
    with pytest.raises(InvalidInput, match="which is in use"):
        OAUTH.issuer.issue(there.access(without(mine, "secret_id"), admin), Ref())
    assert there.alive() == before


def test_a_pasted_secret_is_located_only_for_certain(there: There) -> None:
    """The only one, the one with our hash, or the one that is named; else a person is asked."""
    assert OAUTH.locator
    mine, admin = there.secret(), there.secret("rotator")
    bare, access = without(mine, "secret_id"), there.access(mine, admin)
    assert OAUTH.locator.locate(access, bare).id == mine["secret_id"]
    other = there.secret()
    with pytest.raises(InvalidInput) as caught:
        OAUTH.locator.locate(access, bare)
    assert caught.value.facts["field"] == "secret_id"
    assert other["secret_id"] in caught.value.hint
    assert OAUTH.locator.locate(access, mine).id == mine["secret_id"]
    there.lab("settings", {"hash_is_sha256": True})
    assert OAUTH.locator.locate(access, bare).id == mine["secret_id"]
    with pytest.raises(InvalidInput):
        OAUTH.locator.locate(access, mine.replacing(secret_id="no-such-secret"))


def test_a_sixth_is_not_asked_for(there: There) -> None:
    """The secrets are counted first, so the vendor's undocumented words are not needed."""
    mine, admin = there.secret(), there.secret("rotator")
    for _ in range(4):
        there.secret()
    assert OAUTH.issuer
    with pytest.raises(CapReached, match="5 of 5"):
        OAUTH.issuer.issue(there.access(mine, admin), Ref())
    assert "create_secret" not in there.calls()


@pytest.mark.parametrize(("status", "code"), [(400, "INVALID_PARAMETER_VALUE"), (429, "RESOURCE_EXHAUSTED")])
def test_a_sixth_that_came_in_between(there: There, monkeypatch: Any, status: int, code: str) -> None:
    """Somebody was faster: whatever the refusal says, the count decides what it meant."""
    from keyturn.connectors.databricks import oauth_secrets

    there.lab("settings", {"sixth_status": status, "sixth_code": code})
    mine, admin = there.secret(), there.secret("rotator")
    for _ in range(4):
        there.secret()
    real, counted = oauth_secrets._Open.rows, []

    def rows(self: Any) -> Any:
        counted.append(1)
        return real(self)[:1] if len(counted) == 1 else real(self)

    monkeypatch.setattr(oauth_secrets._Open, "rows", rows)
    assert OAUTH.issuer
    with pytest.raises(CapReached):
        OAUTH.issuer.issue(there.access(mine, admin), Ref())
    assert "create_secret" in there.calls()


def test_a_refused_value_and_a_throttled_call_changed_nothing(there: There) -> None:
    """With room left, 400 is a refusal and 429 a wait; a 500 is not known."""
    mine, admin = there.secret(), there.secret("rotator")
    access, before = there.access(mine, admin), there.alive()
    assert OAUTH.issuer
    for kind, error in (
        ("refuse_value", ValueRefused),
        ("throttle", VendorThrottled),
        ("error_not_applied", OutcomeUnknown),
    ):
        there.lab("faults", [{"op": "create_secret", "kind": kind}])
        with pytest.raises(error):
            OAUTH.issuer.issue(access, Ref())
    assert there.alive() == before


def test_a_page_in_place_of_a_delete_is_not_done(there: There) -> None:
    """Only the vendor's own words say that a secret is gone."""
    mine, admin = there.secret(), there.secret("rotator")
    access = there.access(mine, admin)
    assert OAUTH.revoker
    for kind in ("redirect_foreign", "html_page"):
        there.lab("faults", [{"op": "delete_secret", "kind": kind}])
        if kind == "redirect_foreign":
            with pytest.raises(UnexpectedAnswer):
                OAUTH.revoker.revoke(access, Ref(id=mine["secret_id"]), mine)
    httpx2.delete(f"{there.url}/_lab/faults")
    assert mine["secret_id"] in there.alive()
    OAUTH.revoker.revoke(access, Ref(id=mine["secret_id"]), mine)
    assert mine["secret_id"] not in there.alive()


def test_the_wrong_account_is_not_gone(there: There) -> None:
    """A principal that is not there is an error, not a secret that has ended."""
    mine, admin = there.secret(), there.secret("rotator")
    assert OAUTH.revoker
    access = there.access(mine, admin, client_id="00000000-1111-4222-8333-444444444444")
    with pytest.raises(InvalidInput, match="does not know"):
        OAUTH.revoker.revoke(access, Ref(id=mine["secret_id"]), mine)
    assert mine["secret_id"] in there.alive()


def test_the_last_secret_ends_itself_once_and_for_all(there: There) -> None:
    """Without a rotator the second time cannot sign in, which is what was wanted; another's refusal is not."""
    there.lab("principals", {"name": "gainsight", "manages": ["gainsight"]})
    mine = there.secret()
    assert OAUTH.revoker
    for _ in range(2):
        OAUTH.revoker.revoke(there.access(mine), Ref(id=mine["secret_id"]), mine)
    assert there.alive() == set()
    with pytest.raises(CredentialRejected):
        OAUTH.revoker.revoke(there.access(mine), Ref(id="another"), there.secret())


def test_rights_are_named(there: There) -> None:
    """Who is no manager is told which right is missing, in the vendor's words."""
    mine, admin = there.secret(), there.secret("other")
    assert OAUTH.lister
    with pytest.raises(PermissionMissing) as caught:
        OAUTH.lister.list(there.access(mine, admin))
    assert "Service principal: Manager" in str(caught.value.facts["right"])
    with pytest.raises(PermissionMissing):
        account = {"account_id": there.world["account_id"], "account_host": there.url}
        OAUTH.lister.list(there.access(mine, admin, **account))


def test_who_may_not_list_is_believed_where_the_id_is_given(there: There) -> None:
    """Such a connection serves and is tested; the missing right is named when it is to be rotated."""
    assert OAUTH.locator
    mine = there.secret()
    assert OAUTH.locator.locate(there.access(mine), mine).id == mine["secret_id"]
    with pytest.raises(PermissionMissing):
        OAUTH.locator.locate(there.access(mine), without(mine, "secret_id"))


def test_only_invalid_client_is_a_no(there: There) -> None:
    """What goes wrong after the token was given, or in front of it, says nothing of the secret."""
    mine = there.secret()
    access = there.access(mine)
    there.lab("settings", {"ip_blocked": True})
    assert OAUTH.verifier.verify(access, mine).verdict is Verdict.UNKNOWN
    there.lab("settings", {"ip_blocked": False})
    there.lab("principals", {"name": "gainsight", "in_workspace": False})
    found = OAUTH.verifier.verify(access, mine)
    assert (found.verdict, found.code) == (Verdict.REJECTED, "invalid_client")
    assert "not in this workspace" in found.detail


def test_an_old_access_token_is_never_used(there: There) -> None:
    """Deleted, the secret is refused at once although tokens made from it live on."""
    mine, admin = there.secret(), there.secret("rotator")
    access = there.access(mine, admin)
    assert OAUTH.verifier.verify(access, mine).verdict is Verdict.ACCEPTED
    assert OAUTH.revoker
    OAUTH.revoker.revoke(access, Ref(id=mine["secret_id"]), None)
    assert OAUTH.verifier.verify(access, mine).verdict is Verdict.REJECTED


def test_the_tenant_is_the_workspace(there: There) -> None:
    """The number every answer carries in its header, not the address that was typed."""
    mine = there.secret()
    found = OAUTH.verifier.verify(there.access(mine), mine)
    assert found.identity["tenant"] == there.world["workspace_id"]
    assert found.identity["principal"] == there.name("gainsight")


def test_a_secret_goes_to_databricks_only() -> None:
    """A mistyped host gets no login, however good its certificate."""
    material = Material({"client_id": "a", "client_secret": "dose" + "0" * 32})
    access = Access({"host": "dbc-1.cloud.databricks.com.evil.example"}, material, None, 2.0)
    with pytest.raises(NotPermitted):
        OAUTH.verifier.verify(access, material)


@pytest.mark.parametrize("status", [401, 403])
def test_a_dead_token_is_refused_under_either_status(there: There, status: int) -> None:
    """Documents and reports differ; the words are the same."""
    there.lab("settings", {"dead_token_status": status})
    mine = there.token()
    found = USER.verifier.verify(there.access(mine), USER.verifier.bogus(mine))
    assert (found.verdict, found.code) == (Verdict.REJECTED, "invalid_access_token")


def test_a_blocked_address_is_not_a_dead_token(there: There) -> None:
    """403 as well, and says nothing of the token."""
    mine = there.token()
    there.lab("settings", {"ip_blocked": True})
    assert USER.verifier.verify(there.access(mine), mine).verdict is Verdict.UNKNOWN


def test_a_pasted_token_is_located_only_for_certain(there: There) -> None:
    """By its hash, by its name, or because it is the only one; and only if it is this user's."""
    assert USER.locator
    mine = there.token()
    there.token(comment="another")
    bare, access = without(mine, "token_id"), there.access(mine)
    assert USER.locator.locate(access, bare).id == mine["token_id"]
    there.lab("settings", {"token_id_is_sha256": False})
    salted = there.token(comment="salted")
    with pytest.raises(InvalidInput, match="3 tokens"):
        USER.locator.locate(there.access(salted), without(salted, "token_id"))
    assert USER.locator.locate(there.access(salted), salted).id == salted["token_id"]
    theirs = there.token("admin@acme.example")
    with pytest.raises(InvalidInput, match="another user"):
        USER.locator.locate(there.access(theirs), theirs)


def test_a_token_makes_its_successor_with_its_scopes(there: There) -> None:
    """Our mark is the comment; the id is told once, with the value."""
    mine = there.token(scopes=["sql"])
    there.token(scopes=["all-apis"])
    assert USER.issuer
    assert USER.lister
    made = USER.issuer.read(there.access(mine), USER.issuer.issue(there.access(mine), Ref()))
    listed = {each.ref.id: each.ref.label for each in USER.lister.list(there.access(mine))}
    assert listed[made.ref.id] == "keyturn-test-1"
    assert made.expires_at is not None
    rows = httpx2.get(
        f"{there.url}/api/2.0/token/list", headers={"Authorization": f"Bearer {mine['token']}"}
    ).json()["token_infos"]
    assert next(r for r in rows if r["token_id"] == made.ref.id)["scopes"] == ["sql"]


def test_an_administrator_sees_only_this_users_tokens(there: There) -> None:
    """The list of everybody's is cut to what this user owns; strangers' tokens are never shown as ours."""
    mine, admin = there.token(), there.token("admin@acme.example")
    there.token("gainsight")
    assert USER.lister
    assert [each.ref.id for each in USER.lister.list(there.access(mine, admin))] == [mine["token_id"]]


def test_the_quota_is_a_cap(there: There) -> None:
    """Nothing was made, and the vendor's word for it is known."""
    mine = there.token()
    there.lab("settings", {"most_tokens": 1})
    assert USER.issuer
    with pytest.raises(CapReached):
        USER.issuer.issue(there.access(mine), Ref())


def test_a_life_the_workspace_does_not_allow(there: There) -> None:
    """Told as a refusal; nothing was made."""
    mine = there.token(lifetime_seconds=3600)
    there.lab("settings", {"most_token_days": 30})
    assert USER.issuer
    with pytest.raises(ValueRefused):
        USER.issuer.issue(there.access(mine, lifetime_days=90), Ref())
    with pytest.raises(InvalidInput):
        USER.issuer.issue(there.access(mine, lifetime_days=731), Ref())


def test_a_persons_token_needs_that_person(there: There) -> None:
    """An administrator cannot make one, and nobody else signs."""
    admin = there.token("admin@acme.example")
    assert USER.issuer
    with pytest.raises(InvalidInput, match="nobody can make a token"):
        USER.issuer.issue(there.access(None, admin), Ref())


def test_other_methods_are_not_known() -> None:
    """The catalogue's typing mistakes are named."""
    with pytest.raises(NotFound):
        capabilities("password", {})


def test_ids_that_would_climb_are_refused(there: There) -> None:
    """An id is put into a path only when it is one."""
    mine, admin = there.secret(), there.secret("rotator")
    assert OAUTH.revoker
    for odd in ("", "../../x", "a/b", "a?b"):
        with pytest.raises(InvalidInput):
            OAUTH.revoker.revoke(there.access(mine, admin), Ref(id=odd), None)
    access = dataclasses.replace(
        there.access(mine, admin), settings={"host": there.url, "client_id": 'x" or'}
    )
    assert OAUTH.lister
    with pytest.raises(InvalidInput):
        OAUTH.lister.list(access)


# -- what jobs read ------------------------------------------------------------------------------------------------------

PATH = "/sql/1.0/warehouses/a1b234c567d8e9fa"


def test_a_warehouse_that_sleeps_is_no_refusal(there: There) -> None:
    """The statement is cancelled after the wait: nothing is known, and the job is tried again."""
    mine = there.token()
    access = there.access(mine, http_path=PATH)
    there.lab("settings", {"warehouse_sleeps": True})
    with pytest.raises(VendorUnavailable, match="did not answer within"):
        USER.reader.read_sample(access, mine, "main.sales.orders", 10)
    there.lab("settings", {"warehouse_sleeps": False})
    assert USER.reader.read_sample(access, mine, "main.sales.orders", 10).count == 3


@pytest.mark.parametrize("path", ["", "/sql/1.0/warehouses/../../x", "/sql/protocolv1/o/1/2-3"])
def test_rows_need_a_warehouse_and_lists_need_none(there: There, path: str) -> None:
    """Said before anything is sent. A list is read over all its pages, the empty first one included."""
    mine = there.secret()
    access = there.access(mine, http_path=path)
    with pytest.raises(InvalidInput) as refused:
        OAUTH.reader.read_sample(access, mine, "main.sales.orders", 10)
    assert refused.value.facts["field"] == "http_path"
    assert there.calls() == []
    assert OAUTH.reader.read_sample(access, mine, "main.sales", 10).count == 3
    assert OAUTH.reader.read_sample(access, mine, "", 10).count == 2
    assert OAUTH.reader.read_sample(access, mine, "main.sales", 2).count == 2


def test_a_warehouse_that_is_not_there_is_said(there: There) -> None:
    mine = there.secret()
    access = there.access(mine, http_path="/sql/1.0/warehouses/0000000000000000")
    with pytest.raises(NotFound, match="warehouse"):
        OAUTH.reader.read_sample(access, mine, "main.sales.orders", 10)
