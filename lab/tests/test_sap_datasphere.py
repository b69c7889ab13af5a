"""Datasphere's stand-in, seen by SAP's own hdbcli and by plain HTTP as SAP's command line client sends it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hdbcli import dbapi

from keyturn_lab.standin import running
from keyturn_lab.vendors.sap_datasphere import STANDIN, people
from keyturn_lab.vendors.sap_datasphere.state import RESET, USER, USERS

NAME, OTHER = "SALES#GAINSIGHT", "FINANCE#OTHER"
COUNT = "SELECT TO_VARCHAR(COUNT(*)) FROM (SELECT 1 AS ONE FROM {} LIMIT 1)"
WHO = "SELECT CURRENT_USER FROM DUMMY"


class Tenant:
    """A running tenant, its administration by HTTP and its database by SAP's driver."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.where = httpx2.get(f"{url}/_lab/sql").json()
        found = httpx2.get(f"{url}/_lab/clients").json()
        self.admin, self.plain = ((each["client_id"], each["client_secret"]) for each in found)

    def lab(self, door: str, body: object) -> Any:
        return httpx2.post(f"{self.url}/_lab/{door}", json=body).raise_for_status().json()

    def arm(self, op: str, kind: str) -> None:
        httpx2.post(f"{self.url}/_lab/faults", json=[{"op": op, "kind": kind}]).raise_for_status()

    def password(self, name: str = NAME, **more: object) -> str:
        return self.lab("users", {"name": name, "password": True, **more})["password"]

    def open(self, password: str, name: str = NAME) -> dbapi.Connection:
        place = {"address": self.where["host"], "port": self.where["port"], "encrypt": False}
        return dbapi.connect(**place, user=name, password=password, connectTimeout=5000)

    def ask(self, session: dbapi.Connection, statement: str) -> Any:
        cursor = session.cursor()
        cursor.execute(statement)
        found = cursor.fetchone() if statement.startswith("SELECT") else None
        cursor.close()
        return found[0] if found else None

    def once(self, password: str, statement: str = WHO, name: str = NAME) -> Any:
        """One login, one statement, and out again."""
        session = self.open(password, name)
        try:
            return self.ask(session, statement)
        finally:
            session.close()

    def who(self, password: str, name: str = NAME) -> str:
        return self.once(password, WHO, name)

    def code(self, password: str, statement: str = WHO, name: str = NAME) -> int:
        """HANA's number for a login or statement that must fail."""
        with pytest.raises(dbapi.Error) as refused:
            self.once(password, statement, name)
        return int(refused.value.errorcode)

    def bearer(self, client: tuple[str, str] | None = None) -> dict[str, str]:
        form = {"grant_type": "client_credentials", "response_type": "token"}
        answer = httpx2.post(f"{self.url}/oauth/token", auth=client or self.admin, data=form)
        return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}

    def at(self, template: str, name: str = NAME) -> str:
        space = name.partition("#")[0]
        return self.url + template.format(space=space, databaseuser=quote(name, safe=""))

    def reset(self, headers: dict[str, str], name: str = NAME) -> httpx2.Response:
        fetched = httpx2.get(self.at(RESET, name), headers={**headers, "x-csrf-token": "fetch"})
        token = fetched.headers.get("x-csrf-token", "")
        return httpx2.post(self.at(RESET, name), headers={**headers, "x-csrf-token": token})


@pytest.fixture
def there() -> Iterator[Tenant]:
    with running(STANDIN.create_app()) as url:
        httpx2.post(f"{url}/_lab/dials", json={"latency_s": 0}).raise_for_status()
        yield Tenant(url)


def test_the_official_driver_logs_in(there: Tenant) -> None:
    """hdbcli, unchanged: by the newer of its two SCRAM methods, as the user it named."""
    assert there.who(there.password()) == NAME
    assert there.code("ktlab-wrong") == 10
    assert there.code("ktlab-wrong", name="SALES#NOBODY") == 10


def test_the_official_driver_logs_in_with_tls(there: Tenant, tmp_path: Path) -> None:
    """It takes the certificate it is told to trust, and no other."""
    held, authority = there.password(), tmp_path / "authority.pem"
    authority.write_text(there.where["authority"])
    place = {"address": there.where["host"], "port": there.where["tls_port"], "user": NAME, "password": held}
    secure = {**place, "encrypt": True, "sslCryptoProvider": "openssl", "connectTimeout": 5000}
    session = dbapi.connect(**secure, sslTrustStore=str(authority), sslHostNameInCertificate="localhost")
    assert there.ask(session, WHO) == NAME
    session.close()
    with pytest.raises(dbapi.Error) as refused:
        dbapi.connect(**secure)
    assert refused.value.errorcode == -10709


def test_a_reset_is_made_as_the_command_line_client_makes_it(there: Tenant) -> None:
    """Token, discovery, CSRF, POST with the encoded name; the old password is dead and the new one works."""
    old, bearer = there.password(), there.bearer()
    found = httpx2.get(f"{there.url}/dwaas-core/api/v1/discovery", headers=bearer)
    assert "x-sap-cli-core-discovery-etag" in found.headers
    commands = {b["operationId"] for path in found.json()["paths"].values() for b in path.values()}
    assert commands == {"dbusers list", "dbusers create", "dbusers delete", "dbusers password reset"}
    new = there.reset(bearer).raise_for_status().json()["password"]
    assert there.who(new) == NAME
    assert there.code(old) == 10
    assert httpx2.get(there.at(USERS), headers=bearer).json()[NAME]["status"] == "Active"
    assert new not in httpx2.get(there.at(USERS), headers=bearer).text


def test_who_may_reset(there: Tenant) -> None:
    """401 without a token or with a dead one, 403 without the role or the CSRF token, 404 for what is not there."""
    assert httpx2.post(there.at(RESET)).status_code == 401
    assert httpx2.post(f"{there.url}/oauth/token", auth=("nobody", "x")).status_code == 401
    bearer = there.bearer()
    assert there.reset(there.bearer(there.plain)).status_code == 403
    assert httpx2.post(there.at(RESET), headers=bearer).headers["x-csrf-token"] == "Required"
    assert there.reset(bearer, "SALES#NOBODY").status_code in {403, 404}
    assert there.reset(bearer, "NOSPACE#X").status_code in {403, 404}
    there.lab("settings", {"refuse_next_tokens": 1})
    assert there.reset(bearer).status_code == 401
    assert there.reset(there.bearer()).status_code == 200


def test_a_lost_answer_leaves_a_password_nobody_knows(there: Tenant) -> None:
    """The reset was made all the same; another one brings a value that is known."""
    old, bearer = there.password(), there.bearer()
    there.arm("reset", "answer_lost")
    with pytest.raises(httpx2.TransportError):
        there.reset(bearer)
    assert there.code(old) == 10
    assert there.who(there.reset(bearer).json()["password"]) == NAME


def test_a_person_requests_a_password(there: Tenant) -> None:
    """At the page, shown once."""
    old = there.password()
    shown = people.request_password(there.url, NAME)
    assert there.who(shown) == NAME
    assert there.code(old) == 10
    with pytest.raises(people.Refused):
        people.request_password(there.url, "SALES#NOBODY")


def test_six_refused_logins_lock_for_a_day(there: Tenant) -> None:
    """Then the right password is refused with another number, until the time is over or the password is reset."""
    held = there.password()
    assert [there.code("ktlab-wrong") for _ in range(6)] == [10] * 6
    assert there.code(held) == 416
    there.lab("clock", {"advance_s": 86_401})
    assert there.who(held) == NAME
    for _ in range(6):
        there.code("ktlab-wrong")
    assert there.who(there.password()) == NAME


def test_a_password_under_the_policy_must_be_changed_first(there: Tenant) -> None:
    """The login works and everything else is 414, until ALTER USER; unused it lapses, used it expires."""
    first = there.password(has_lifetime=True)
    assert there.code(first) == 414
    session = there.open(first)
    there.ask(session, f'ALTER USER "{NAME}" PASSWORD "ktlab-Own-Password-1"')
    assert there.ask(session, WHO) == NAME
    session.close()
    assert there.code(first) == 10
    there.lab("clock", {"advance_s": 91 * 86_400})
    assert there.code("ktlab-Own-Password-1") == 414
    lapses = there.password()
    there.lab("clock", {"advance_s": 86_401})
    assert there.code(lapses) == 415


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (f'ALTER USER "{NAME}" PASSWORD "short"', 412),
        ('ALTER USER "SALES#GAINSIGHT_B" PASSWORD "ktlab-Own-Password-1"', 258),
        (COUNT.format('"FINANCE"."LEDGER"'), 258),
        (COUNT.format('"SALES"."NOTHING"'), 259),
        ('INSERT INTO "SALES"."REVENUE" SELECT * FROM "SALES"."REVENUE" WHERE 1 = 0', 258),
        ("nonsense", 257),
    ],
)
def test_refused_statements(there: Tenant, statement: str, code: int) -> None:
    """Each with HANA's own number."""
    assert there.code(there.password(), statement) == code


def test_an_old_password_is_not_taken_again(there: Tenant) -> None:
    """And where users may not change their own at all it is a missing privilege."""
    held = there.password()
    assert there.code(held, f'ALTER USER "{NAME}" PASSWORD "{held}"') == 413
    there.lab("settings", {"self_service": False})
    assert there.code(held, f'ALTER USER "{NAME}" PASSWORD "ktlab-Own-Password-1"') == 258


def test_whether_sessions_survive_is_a_switch(there: Tenant) -> None:
    """HANA looks at the password when a session is opened; a tenant that ends them is the other case."""
    session = there.open(there.password())
    there.password()
    assert there.ask(session, WHO) == NAME
    there.lab("settings", {"sessions_survive": False})
    with pytest.raises(dbapi.Error):
        there.ask(session, WHO)
    session.close()


def test_a_new_user_takes_its_time_and_a_deleted_one_takes_its_data(there: Tenant) -> None:
    """Not Active yet, nobody logs in; deleting is for good."""
    bearer = there.bearer()
    there.lab("settings", {"activation_s": 60, "csrf": False})
    made = httpx2.post(there.at(USERS), headers=bearer, json={"SALES#LATE": {}})
    assert made.json()["SALES#LATE"]["status"] == "Pending"
    held = there.password("SALES#LATE")
    assert there.code(held, name="SALES#LATE") == 10
    there.lab("clock", {"advance_s": 61})
    assert there.who(held, "SALES#LATE") == "SALES#LATE"
    assert httpx2.delete(there.at(USER, "SALES#LATE"), headers=bearer).status_code == 204
    assert there.code(held, name="SALES#LATE") == 10


def test_a_password_lingers_and_settles_where_the_dial_says_so(there: Tenant) -> None:
    """A reset that takes a minute to be known everywhere."""
    old = there.password()
    there.lab("dials", {"settle_s": 60})
    new = there.password()
    assert there.who(old) == NAME
    assert there.code(new) == 10
    there.lab("clock", {"advance_s": 61})
    assert there.who(new) == NAME
    assert there.code(old) == 10


def test_an_address_that_is_not_allowed_gets_nothing(there: Tenant) -> None:
    """The connection is dropped without a word."""
    held = there.password()
    there.lab("settings", {"is_address_allowed": False})
    assert there.code(held) == -10709
