"""What Keyturn makes opens the vendor through its official client, unmodified, as the right account; what it ended does not.

The client is configured with the stand-in's address and nothing else that a customer would not give it. Rows whose vendor
has no client that can be pointed at a local server are absent: their sheets say so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import pytest

from keyturn.keymaking import rsa
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.testing import RowUnderTest
from tests.compliance import entra
from tests.compliance.case import under_test
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows import ROWS


@dataclass(frozen=True)
class Client:
    """`who` opens the vendor and says as whom; refused, it raises `no`, whose text holds `words`."""

    who: Callable[[RowUnderTest, Material], str]
    no: Callable[[], type[Exception]]
    words: str


def _psycopg(row: RowUnderTest, held: Material) -> str:
    import psycopg

    at = row.access.settings
    with psycopg.connect(
        host=str(at["host"]),
        port=int(at["port"]),
        dbname=str(at["database"]),
        user=held["user"],
        password=held["password"],
        connect_timeout=10,
    ) as session:
        return str(session.execute("SELECT session_user").fetchone()[0])


def _pymysql(row: RowUnderTest, held: Material) -> str:
    import pymysql

    at = row.access.settings
    with (
        closing(
            pymysql.connect(
                host=str(at["host"]), port=int(at["port"]), user=held["user"], password=held["password"]
            )
        ) as session,
        session.cursor() as cursor,
    ):
        cursor.execute("SELECT current_user()")
        return str(cursor.fetchone()[0])


def _redshift(row: RowUnderTest, held: Material) -> str:
    import redshift_connector

    at = row.access.settings
    session = redshift_connector.connect(
        host=str(at["host"]),
        port=int(at["port"]),
        database=str(at["database"]),
        user=held["user"],
        password=held["password"],
        ssl=False,
        timeout=10,
    )
    with closing(session), closing(session.cursor()) as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])


def _snowflake(row: RowUnderTest, held: Material) -> str:
    import snowflake.connector

    at = row.access.settings
    where = {"account": at["account"], "host": at["host"], "port": int(at["port"]), "protocol": "http"}
    if "private_key" in held:
        pair = rsa.load(held["private_key"], held.get("passphrase") or None)
        how: dict[str, Any] = {"user": at["user"], "private_key": pair.private_der}
    elif "refresh_token" in held:
        how = {"authenticator": "oauth", "token": _snowflake_token(row, held)}
    else:
        how = {"user": at["user"], "password": held["password"]}
    with (
        snowflake.connector.connect(
            **where,
            **how,
            login_timeout=10,
            enable_server_session_keep_alive_auto_detection=False,
            auto_cleanup=False,
        ) as session,
        session.cursor() as cursor,
    ):
        return str(cursor.execute("SELECT CURRENT_USER()").fetchone()[0])


def _snowflake_token(row: RowUnderTest, held: Material) -> str:
    """A driver takes an access token; the client that has the grant fetches one as RFC 6749 says."""
    from requests.auth import HTTPBasicAuth
    from requests_oauthlib import OAuth2Session

    at, client_id = row.access.settings, held.get("client_id") or str(row.access.settings["client_id"])
    with OAuth2Session(client_id) as session:
        got = session.refresh_token(
            f"http://{at['host']}:{at['port']}/oauth/token-request",
            refresh_token=held["refresh_token"],
            # Form-encoded inside Basic, RFC 6749 section 2.3.1: this library leaves that to its caller.
            auth=HTTPBasicAuth(quote_plus(client_id), quote_plus(held["client_secret"])),
        )
        return str(got["access_token"])


def _bigquery_key(row: RowUnderTest, held: Material) -> str:
    from google.oauth2 import service_account

    info = {**json.loads(held["key_file"]), "token_uri": row.access.settings["token_url"]}
    scopes = ["https://www.googleapis.com/auth/bigquery"]
    return _bigquery(row, service_account.Credentials.from_service_account_info(info, scopes=scopes))


def _google_grant(row: RowUnderTest, held: Material) -> Any:
    from google.oauth2.credentials import Credentials

    admin = row.access.admin or held
    return Credentials(
        None,
        refresh_token=held["refresh_token"],
        token_uri=f"{row.access.settings['token_url']}/token",
        client_id=held.get("client_id") or admin["client_id"],
        client_secret=held.get("client_secret") or admin["client_secret"],
    )


def _bigquery(row: RowUnderTest, credentials: Any) -> str:
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import bigquery

    at = row.access.settings
    options = {"api_endpoint": at["bigquery_url"]}
    with bigquery.Client(
        str(at["project_id"]), _http=AuthorizedSession(credentials), client_options=options
    ) as client:
        return str(next(iter(client.query_and_wait("SELECT SESSION_USER()", max_results=1)))[0])


def _analytics(row: RowUnderTest, held: Material) -> str:
    from google.auth.transport.requests import AuthorizedSession

    with AuthorizedSession(_google_grant(row, held)) as session:
        answer = session.get(f"{row.access.settings['api_url']}/oauth2/v2/userinfo")
        return str(answer.json()["id"])


def _databricks(row: RowUnderTest, held: Material) -> str:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    how = (
        {"token": held["token"], "auth_type": "pat"}
        if "token" in held
        else {
            "client_id": held["client_id"],
            "client_secret": held["client_secret"],
            "auth_type": "oauth-m2m",
        }
    )
    return str(
        WorkspaceClient(config=Config(host=row.access.settings["host"], **how)).current_user.me().user_name
    )


def _boto3(row: RowUnderTest, held: Material) -> str:
    import boto3

    at = row.access.settings
    keys = {
        "aws_access_key_id": held["access_key_id"],
        "aws_secret_access_key": held["secret_access_key"],
        "region_name": at["region"],
    }
    with (
        closing(boto3.client("s3", endpoint_url=at["s3_endpoint"], **keys)) as s3,
        closing(boto3.client("sts", endpoint_url=at["sts_endpoint"], **keys)) as sts,
    ):
        s3.list_objects_v2(Bucket=at["bucket"], MaxKeys=1)
        return str(sts.get_caller_identity()["Arn"])


def _hdbcli(row: RowUnderTest, held: Material) -> str:
    from hdbcli import dbapi

    at = row.access.settings
    session = dbapi.connect(
        address=str(at["host"]),
        port=int(at["port"]),
        user=held["user"],
        password=held["password"],
        encrypt=False,
        connectTimeout=10_000,
    )
    with closing(session), closing(session.cursor()) as cursor:
        cursor.execute("SELECT CURRENT_USER FROM DUMMY")
        return str(cursor.fetchone()[0])


def _msal(row: RowUnderTest, held: Material) -> str:
    """MSAL says no in a dictionary and raises nothing."""
    got = entra.sign_in(row.access.settings, held)
    if "access_token" not in got:
        raise PermissionError(got["error_codes"])
    return entra.who_am_i(row.access.settings, got["access_token"])


def _error(module: str, name: str) -> Callable[[], type[Exception]]:
    """An exception of a client, which is imported when it is needed."""
    from importlib import import_module

    return lambda: getattr(import_module(module), name)


_SNOWFLAKE_NO = _error("snowflake.connector.errors", "DatabaseError")
CLIENTS = {
    "postgresql/": Client(_psycopg, _error("psycopg", "OperationalError"), "password authentication failed"),
    "mysql/": Client(_pymysql, _error("pymysql.err", "OperationalError"), "1045"),
    "redshift/": Client(_redshift, _error("redshift_connector.error", "InterfaceError"), "28000"),
    "snowflake/key_pair": Client(_snowflake, _SNOWFLAKE_NO, "JWT token is invalid"),
    "snowflake/password": Client(_snowflake, _SNOWFLAKE_NO, "Incorrect username or password"),
    "snowflake/oauth": Client(_snowflake, _error("oauthlib.oauth2", "OAuth2Error"), "invalid_client"),
    "bigquery/service_account": Client(
        _bigquery_key, _error("google.auth.exceptions", "RefreshError"), "Invalid JWT Signature"
    ),
    "bigquery/oauth": Client(
        lambda row, held: _bigquery(row, _google_grant(row, held)),
        _error("google.auth.exceptions", "RefreshError"),
        "invalid_grant",
    ),
    "google-analytics/": Client(
        _analytics, _error("google.auth.exceptions", "RefreshError"), "invalid_grant"
    ),
    "databricks/oauth": Client(_databricks, _error("builtins", "ValueError"), "invalid_client"),
    "databricks/user": Client(
        _databricks, _error("databricks.sdk.errors", "PermissionDenied"), "Invalid access token"
    ),
    "dynamics/client_secret": Client(_msal, lambda: PermissionError, "7000215"),
    "dynamics/certificate": Client(_msal, lambda: PermissionError, "700027"),
    "s3-customer/": Client(_boto3, _error("botocore.exceptions", "ClientError"), "InvalidAccessKeyId"),
    "sap-datasphere/": Client(_hdbcli, _error("hdbcli.dbapi", "Error"), "authentication failed"),
}
# PyMySQL signs for ed25519 only with a library that is no dependency of ours.
LEFT_OUT = ("mysql/password ed25519",)


def _cases() -> Iterator[Any]:
    for name in ROWS:
        for start, client in CLIENTS.items():
            if name.startswith(start) and name not in LEFT_OUT:
                group = pytest.mark.xdist_group(f"rows-{name.split('/', maxsplit=1)[0]}")
                yield pytest.param(name, client, id=name, marks=group)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No profile of this machine, and no look at addresses that cannot be changed."""
    from google.auth.credentials import CredentialsWithRegionalAccessBoundary as Owner

    monkeypatch.setattr(Owner, "_is_regional_access_boundary_lookup_required", lambda _: False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning"
)  # clients that were refused leave theirs
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "client"), list(_cases()))
def test_the_official_client_agrees(name: str, client: Client) -> None:
    """With what was made it gets in, as whom Keyturn saw; with what was ended, or replaced, it is refused."""
    row = under_test(name, or_skip(lambda: ROWS[name](the_lab())))
    new, ended = row.good, row.wrong[0]
    if row.can.setter or row.can.issuer or row.can.authorizer:
        made = row.stage()
        new, ended = made.material, row.good
    row.becomes(new, Verdict.ACCEPTED)
    # Of two users that take turns the identity is what both stand for; each logs in under its own name.
    own_name = (
        new.get("user", "") if row.identity.get("login_label") or " or " in row.identity["principal"] else ""
    )
    assert client.who(row, new).removesuffix("@%") == (own_name or row.identity["principal"]).removesuffix(
        "@%"
    )
    if row.can.revoker is not None and new is not row.good and not row.card.new_kills_old:
        row.can.revoker.revoke(row.access, made.ref, new)
        ended = new
    row.becomes(ended, Verdict.REJECTED)
    with pytest.raises(client.no(), match=client.words):
        client.who(row, ended)
