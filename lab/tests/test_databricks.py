"""Databricks' stand-in behaves as its sheet says; the official SDK, unmodified, is the judge."""

import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from databricks.sdk import AccountClient, WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import (
    BadRequest,
    InternalError,
    NotFound,
    PermissionDenied,
    ResourceDoesNotExist,
    TooManyRequests,
    Unauthenticated,
)
from databricks.sdk.service.iam import Patch, PatchOp, PatchSchema
from databricks.sdk.service.sql import StatementState

from keyturn_lab.standin import running
from keyturn_lab.vendors.databricks import STANDIN
from keyturn_lab.vendors.databricks.server import WAREHOUSE

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The SDK reads its own variables and file; here it reads none."""
    for name in [n for n in os.environ if n.startswith("DATABRICKS_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


class There:
    """The stand-in, its doors, and clients for it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.world = httpx2.get(f"{url}/_lab/world").json()

    def lab(self, what: str, body: object) -> Any:
        answer = httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def make(self, kind: str, principal: str, **more: Any) -> Json:
        return self.lab("make", {"kind": kind, "principal": principal, **more})

    def config(self, **more: Any) -> Config:
        return Config(host=self.url, retry_timeout_seconds=3, **more)

    def id(self, name: str, what: str = "id") -> str:
        return str(self.world["principals"][name][what])

    def service(self, name: str, secret: str | None = None) -> WorkspaceClient:
        value = secret or self.make("secret", name)["secret"]
        return WorkspaceClient(
            config=self.config(client_id=self.id(name, "application_id"), client_secret=value)
        )

    def account(self, name: str) -> AccountClient:
        value = self.make("secret", name)["secret"]
        made = Config(
            host=self.url.replace("127.0.0.1", "localhost"),
            retry_timeout_seconds=3,
            account_id=self.world["account_id"],
            client_id=self.id(name, "application_id"),
            client_secret=value,
        )
        return AccountClient(config=made)

    def user(self, token: str) -> WorkspaceClient:
        return WorkspaceClient(config=self.config(token=token))

    def alive(self, kind: str) -> list[str]:
        return [e["id"] for e in httpx2.get(f"{self.url}/_lab/alive").json() if e["kind"] == kind]

    def log(self) -> list[Json]:
        return list(httpx2.get(f"{self.url}/_lab/log").json())


@pytest.fixture
def there() -> Iterator[There]:
    with running(STANDIN.create_app()) as url:
        found = There(url)
        found.lab("dials", {"latency_s": 0})
        yield found


def test_the_sdk_rotates_a_secret(there: There) -> None:
    """Create, list over pages, log in, delete: the workspace's door as the SDK walks through it."""
    rotator = there.service("rotator").service_principal_secrets_proxy
    number = there.id("gainsight")
    made = [rotator.create(number, lifetime="7776000s", scopes=["sql"]) for _ in range(3)]
    assert made[0].secret is not None
    assert made[0].secret.startswith("dose")
    assert len(made[0].secret) == 36
    rows = list(rotator.list(number))
    assert [r.id for r in rows] == [m.id for m in made], "the list has pages of two"
    assert all(r.status == "ACTIVE" and r.expire_time and r.scopes == ["sql"] for r in rows)
    me = there.service("gainsight", made[0].secret)
    who = me.current_user.me()
    assert (who.user_name, who.id) == (there.id("gainsight", "application_id"), number)
    assert me.get_workspace_id() == int(there.world["workspace_id"])
    rotator.delete(number, str(made[0].id))
    assert me.current_user.me().user_name == who.user_name, "its token outlives the secret"
    with pytest.raises(ValueError, match="invalid_client: Client authentication failed"):
        there.service("gainsight", made[0].secret).current_user.me()
    with pytest.raises(ResourceDoesNotExist):
        rotator.delete(number, str(made[0].id))


def test_the_account_api_is_for_account_admins(there: There) -> None:
    """The same calls below the account; others are told the vendor's own words."""
    number = there.id("gainsight")
    account = there.account("rotator")
    made = account.service_principal_secrets.create(number)
    assert [row.id for row in account.service_principal_secrets.list(number)] == [made.id]
    found = list(
        account.service_principals.list(
            filter=f'applicationId eq "{there.id("gainsight", "application_id")}"'
        )
    )
    assert [p.id for p in found] == [number]
    account.service_principal_secrets.delete(number, str(made.id))
    with pytest.raises(PermissionDenied, match="disabled for users without account admin status"):
        there.account("manager").service_principal_secrets.create(number)


def test_roles_in_the_workspace(there: There) -> None:
    """A manager may, others may not; the UUID is no id, and a principal outside the workspace is not there."""
    number = there.id("gainsight")
    there.service("manager").service_principal_secrets_proxy.create(number)
    other = there.service("other").service_principal_secrets_proxy
    with pytest.raises(PermissionDenied):
        other.create(number)
    rotator = there.service("rotator").service_principal_secrets_proxy
    with pytest.raises(ResourceDoesNotExist):
        rotator.create(there.id("gainsight", "application_id"))
    there.lab("principals", {"name": "gainsight", "in_workspace": False})
    with pytest.raises(NotFound):
        rotator.create(number)


def test_five_secrets_and_the_words_for_a_sixth(there: There) -> None:
    """The cap holds; how it is said is a switch, because nobody documents it."""
    rotator = there.service("rotator").service_principal_secrets_proxy
    number = there.id("gainsight")
    for _ in range(5):
        rotator.create(number)
    with pytest.raises(BadRequest):
        rotator.create(number)
    there.lab("settings", {"sixth_status": 429, "sixth_code": "RESOURCE_EXHAUSTED"})
    with pytest.raises((TooManyRequests, TimeoutError)):
        rotator.create(number)
    assert len(list(rotator.list(number))) == 5


@pytest.mark.parametrize("lifetime", ["7776000", "63072001s", "soon"])
def test_lifetimes_that_are_refused(there: There, lifetime: str) -> None:
    """Seconds with an s, at most 730 days."""
    with pytest.raises(BadRequest):
        there.service("rotator").service_principal_secrets_proxy.create(
            there.id("gainsight"), lifetime=lifetime
        )


def test_a_secret_runs_out(there: There) -> None:
    """Expiry is the clock's; what ran out is not listed and takes no room."""
    made = there.make("secret", "gainsight", lifetime="3600s")
    there.lab("clock", {"advance_s": 3601})
    with pytest.raises(ValueError, match="invalid_client"):
        there.service("gainsight", made["secret"]).current_user.me()
    rotator = there.service("rotator").service_principal_secrets_proxy
    assert list(rotator.list(there.id("gainsight"))) == []


def test_the_sdk_posts_again_after_a_lost_answer(there: There) -> None:
    """Why a create must be looked up: one call, two secrets, one of them an orphan."""
    rotator = there.service("rotator").service_principal_secrets_proxy
    number = there.id("gainsight")
    rotator.list(number)
    there.lab("faults", [{"op": "create_secret", "kind": "answer_lost"}])
    rotator.create(number)
    assert len(list(rotator.list(number))) == 2
    there.lab("faults", [{"op": "create_secret", "kind": "error_not_applied"}])
    with pytest.raises(InternalError):
        rotator.create(number)


def test_throttled_and_tried_again(there: There) -> None:
    """429 carries Retry-After, and the SDK heeds it."""
    client = there.service("rotator")
    client.current_user.me()
    there.lab("faults", [{"op": "me", "kind": "throttle"}])
    assert client.current_user.me().user_name == there.id("rotator", "application_id")


def test_metadata_can_be_missing(there: There) -> None:
    """Without host metadata this SDK needs to be told where discovery is."""
    there.lab("settings", {"metadata": False})
    secret = there.make("secret", "gainsight")["secret"]
    config = there.config(
        client_id=there.id("gainsight", "application_id"),
        client_secret=secret,
        discovery_url=f"{there.url}/oidc/.well-known/oauth-authorization-server",
    )
    assert WorkspaceClient(config=config).current_user.me().active


def test_tokens_of_ones_own(there: There) -> None:
    """A token makes, lists and deletes its siblings, and is refused when deleted."""
    first = there.make("token", "integration@acme.example", comment="first")
    me = there.user(first["token_value"])
    second = me.tokens.create(comment="second", lifetime_seconds=3600)
    assert second.token_value is not None
    assert second.token_info is not None
    assert {t.comment for t in me.tokens.list()} == {"first", "second"}
    me.tokens.delete(first["token_info"]["token_id"])
    with pytest.raises(PermissionDenied, match="Invalid access token"):
        me.current_user.me()
    again = there.user(second.token_value)
    assert again.current_user.me().user_name == "integration@acme.example"
    with pytest.raises(ResourceDoesNotExist):
        again.tokens.delete("0" * 64)
    there.lab("clock", {"advance_s": 3600})
    with pytest.raises(PermissionDenied):
        there.user(second.token_value).current_user.me()


def test_a_refused_token_may_be_401(there: There) -> None:
    """Documents and reports differ about the status; both are there."""
    there.lab("settings", {"dead_token_status": 401})
    with pytest.raises(Unauthenticated):
        there.user("dapi" + "0" * 32).current_user.me()


def test_the_administrator_manages_tokens(there: There) -> None:
    """Lists everybody's, deletes anybody's, makes them for service principals only; others may not."""
    admin = there.user(there.make("token", "admin@acme.example")["token_value"])
    mine = there.make("token", "integration@acme.example")
    made = admin.token_management.create_obo_token(
        there.id("gainsight", "application_id"), comment="jobs", lifetime_seconds=3600
    )
    assert made.token_info is not None
    owners = {t.token_id: t.owner_id for t in admin.token_management.list()}
    assert owners[str(made.token_info.token_id)] == int(there.id("gainsight"))
    admin.token_management.delete(mine["token_info"]["token_id"])
    assert mine["token_info"]["token_id"] not in there.alive("token")
    user = there.user(there.make("token", "integration@acme.example")["token_value"])
    with pytest.raises(PermissionDenied):
        list(user.token_management.list())


def test_limits_of_tokens(there: There) -> None:
    """The quota and the workspace's longest life."""
    me = there.user(there.make("token", "integration@acme.example")["token_value"])
    there.lab("settings", {"most_tokens": 1, "most_token_days": 30})
    with pytest.raises(BadRequest, match="quota"):
        me.tokens.create()
    there.lab("settings", {"most_tokens": 600})
    with pytest.raises(BadRequest, match="lifetime"):
        me.tokens.create(lifetime_seconds=31 * 86_400)


def test_a_password_is_not_accepted(there: There) -> None:
    """Basic ended on 10 July 2024: the SDK still builds the header, the server refuses it."""
    client = WorkspaceClient(config=there.config(username="integration@acme.example", password="secret"))
    with pytest.raises(Unauthenticated):
        client.current_user.me()


def test_a_blocked_address(there: There) -> None:
    """The IP access list answers before the token is looked at."""
    token = there.make("token", "integration@acme.example")["token_value"]
    there.lab("settings", {"ip_blocked": True})
    with pytest.raises(PermissionDenied, match="blocked by Databricks IP ACL"):
        there.user(token).current_user.me()


def test_service_principals_are_found_by_filter(there: There) -> None:
    """The SDK asks on until a page is empty."""
    rotator = there.service("rotator")
    rows = rotator.service_principals.list(filter='displayName co "gain"')
    assert [p.display_name for p in rows] == ["gainsight"]


def test_a_principal_is_switched_off_and_deleted(there: There) -> None:
    """Switched off it gets no new token, and on again it does; deleted, its secrets are dead."""
    rotator, secret = there.service("rotator"), there.make("secret", "gainsight")["secret"]
    number = there.id("gainsight")
    for value in (False, True):
        rotator.service_principals.patch(
            number,
            operations=[Patch(op=PatchOp.REPLACE, path="active", value=value)],
            schemas=[PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP],
        )
        if value:
            assert there.service("gainsight", secret).current_user.me().active
        else:
            with pytest.raises(ValueError, match="invalid_client"):
                there.service("gainsight", secret).current_user.me()
    with pytest.raises(PermissionDenied):
        there.service("other").service_principals.delete(number)
    rotator.service_principals.delete(number)
    with pytest.raises(ValueError, match="invalid_client"):
        there.service("gainsight", secret).current_user.me()


def test_the_token_policy_is_read(there: There) -> None:
    """By the administrator, under the vendor's own keys."""
    there.lab("settings", {"most_token_days": 30})
    found = there.service("rotator").workspace_conf.get_status("maxTokenLifetimeDays,enableTokensConfig")
    assert found == {"maxTokenLifetimeDays": "30", "enableTokensConfig": "true"}


def test_the_sdk_reads_rows_and_lists(there: There) -> None:
    """A statement by the warehouse, its failure in a 200, and lists whose first page may be empty."""
    me = there.service("gainsight")
    assert [each.name for each in me.catalogs.list()] == ["main", "samples"]
    assert [each.name for each in me.tables.list("main", "sales")] == ["orders", "empty", "secret"]
    with pytest.raises(NotFound):
        list(me.tables.list("main", "elsewhere"))
    count = "SELECT count(*) FROM (SELECT 1 FROM `main`.`sales`.`{}` LIMIT 2)"
    run = me.statement_execution.execute_statement
    found = run(count.format("orders"), WAREHOUSE)
    assert found.result is not None
    assert found.result.data_array == [["2"]]
    for table, state in (("nowhere", "42P01"), ("secret", "42501")):
        failed = run(count.format(table), WAREHOUSE).status
        assert failed is not None
        assert (failed.state, failed.sql_state) == (StatementState.FAILED, state)
    with pytest.raises(NotFound):
        run(count.format("orders"), "another")
