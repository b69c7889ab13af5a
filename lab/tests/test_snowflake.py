"""Snowflake's stand-in behaves as its sheet says; the unmodified driver is the judge."""

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx2
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.people import Refused
from keyturn_lab.standin import running
from keyturn_lab.vendors.snowflake import STANDIN, jwtlogin, people
from keyturn_lab.vendors.snowflake.keys import read_key
from keyturn_lab.vendors.snowflake.lexer import Cursor

ADMIN, USER, LEGACY = "KEYTURN_ADMIN", "GS_GAINSIGHT_USER", "GS_LEGACY_USER"
STRONG = "Correct-Horse-7-Battery"


class KeyPair:
    def __init__(self) -> None:
        self.private = private = rsa.generate_private_key(65537, 2048)
        spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self.body = base64.b64encode(spki).decode()
        self.fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(spki).digest()).decode()
        self.pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


ONE, TWO = KeyPair(), KeyPair()


class Lab:
    """One running account and the ways in."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def login(self, user: str, **how: object) -> Iterator[snowflake.connector.SnowflakeConnection]:
        place = urlsplit(self.url)
        # Unset, the first one makes the driver warn, and warnings are errors here. The second keeps a login that failed
        # from closing itself when the collector finds it: the driver does that with context variables, in whatever thread
        # and at whatever moment it is, and Python 3.11 crashes when that moment is the middle of another change to them.
        quiet = {"enable_server_session_keep_alive_auto_detection": False, "auto_cleanup": False}
        how = {"login_timeout": 10, "network_timeout": 10} | quiet | how
        with closing(
            snowflake.connector.connect(
                account="testacct", host=place.hostname, port=place.port, protocol="http", user=user, **how
            )
        ) as connection:
            yield connection

    def refusal(self, user: str, **how: object) -> int:
        with pytest.raises(DatabaseError) as caught, self.login(user, **how):
            pass
        return caught.value.errno

    def admin(self) -> object:
        return self.login(ADMIN, password=DEMO_PASSWORD)

    def post(self, what: str, body: object) -> httpx2.Response:
        return httpx2.post(f"{self.url}/_lab/{what}", json=body).raise_for_status()

    def get(self, what: str) -> object:
        return httpx2.get(f"{self.url}/_lab/{what}").raise_for_status().json()

    def alive(self, owner: str) -> list[str]:
        return [each["id"] for each in self.get("alive") if each["owner"] == owner]

    def fault(self, op: str, kind: str, times: int | None = 1, seconds: float = 0) -> None:
        self.post("faults", [{"op": op, "kind": kind, "times": times, "seconds": seconds}])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running(STANDIN.create_app()) as url:
        lab = Lab(url)
        lab.post("dials", {"latency_s": 0})
        yield lab


def run(connection: object, sql: str, *values: object) -> list[tuple]:
    with closing(connection.cursor()) as cursor:
        return cursor.execute(sql, values or None).fetchall()


def described(connection: object, user: str = USER) -> dict[str, str]:
    return {row[0]: row[1] for row in run(connection, f'DESC USER "{user}"')}


def by_key(pair: KeyPair) -> dict[str, object]:
    return {"private_key": pair.der, "authenticator": "SNOWFLAKE_JWT"}


def test_password(lab: Lab) -> None:
    """A right password opens, a wrong one and an unknown user both get 390100."""
    with lab.admin() as admin:
        assert run(admin, "SELECT CURRENT_USER(), CURRENT_ROLE()") == [(ADMIN, "ACCOUNTADMIN")]
    assert lab.refusal(ADMIN, password="wrong") == 390100
    assert lab.refusal("NOBODY", password="wrong") == 390100


def test_both_key_slots_open(lab: Lab) -> None:
    """Two keys work at once, one per slot; UNSET ends its own and leaves the other."""
    with lab.admin() as admin:
        run(admin, f"ALTER USER \"{USER}\" SET RSA_PUBLIC_KEY = '{ONE.body}'")
        run(admin, f'ALTER USER "{USER}" SET RSA_PUBLIC_KEY_2 = %s', TWO.body)
        facts = described(admin)
        assert (facts["RSA_PUBLIC_KEY_FP"], facts["RSA_PUBLIC_KEY_2_FP"]) == (
            ONE.fingerprint,
            TWO.fingerprint,
        )
        for pair in (ONE, TWO):
            with lab.login(USER, **by_key(pair)) as session:
                assert run(session, "SELECT CURRENT_USER()") == [(USER,)]
        run(admin, f'ALTER USER "{USER}" UNSET RSA_PUBLIC_KEY; -- done')
        assert described(admin)["RSA_PUBLIC_KEY_FP"] == "null"
    assert lab.refusal(USER, **by_key(ONE)) == 390144
    assert lab.alive(USER) == [f"{USER}/RSA_PUBLIC_KEY_2"]
    with lab.login(USER, **by_key(TWO)):
        pass


def test_failure_details_name_the_reason(lab: Lab) -> None:
    """390144 hides the reason; its id leads an administrator to the symbol."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    with pytest.raises(DatabaseError) as caught, lab.login(USER, **by_key(TWO)):
        pass
    failure_id = str(caught.value).rpartition("[")[2].partition("]")[0]
    with lab.admin() as admin:
        ((text,),) = run(admin, "SELECT SYSTEM$GET_LOGIN_FAILURE_DETAILS(%s)", failure_id)
    assert json.loads(text)["errorCode"] == "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH"


def test_late_jwt_is_refused(lab: Lab) -> None:
    """A client whose clock is more than 60 s off cannot log in with a good key; pushing the lab's time is no skew."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    lab.post("clock", {"advance_s": 90 * 86_400})
    with lab.login(USER, **by_key(ONE)):
        pass
    lab.post("settings", {"clock_skew_s": 90})
    assert lab.refusal(USER, **by_key(ONE)) == 390144


@pytest.mark.parametrize(
    "value",
    [ONE.pem, ONE.body[:-40], "not base64!", "c3NoLXJzYQ=="],
    ids=["armour", "cut off", "no base64", "no key"],
)
def test_bad_keys_are_refused(lab: Lab, value: str) -> None:
    """PEM armour, a cut-off body and other text are no key, and the slot stays as it was."""
    with lab.admin() as admin:
        with pytest.raises(ProgrammingError, match="Invalid Public key"):
            run(admin, f'ALTER USER "{USER}" SET RSA_PUBLIC_KEY = %s', value)
        with pytest.raises(ProgrammingError, match="invalid property 'RSA_PUBLIC_KEY_FP'"):
            run(admin, f"ALTER USER {USER} SET RSA_PUBLIC_KEY_FP = 'x'")
        assert described(admin)["RSA_PUBLIC_KEY"] == "null"


def test_service_users_have_no_password(lab: Lab) -> None:
    """A SERVICE user cannot be given a password, and one left from before opens nothing."""
    with lab.admin() as admin, pytest.raises(ProgrammingError, match="TYPE=SERVICE"):
        run(admin, f"ALTER USER {USER} SET PASSWORD = '{STRONG}'")
    lab.post("users", {"name": USER, "password": STRONG})
    assert lab.refusal(USER, password=STRONG) == 390100
    assert lab.alive(USER) == []


def test_password_rotation_survives_odd_characters(lab: Lab) -> None:
    """A password has one slot; quotes and backslashes arrive whole, and a prior value is refused."""
    odd = "o'b\\r\"x%-Aa1-longer"
    with lab.admin() as admin:
        run(admin, f'ALTER USER "{LEGACY}" SET PASSWORD = %s MUST_CHANGE_PASSWORD = FALSE', odd)
        with pytest.raises(ProgrammingError, match="PRIOR_USE") as caught:
            run(admin, f'ALTER USER "{LEGACY}" SET PASSWORD = %s', odd)
        assert caught.value.sqlstate == "28P01"
    with lab.login(LEGACY, password=odd):
        pass
    assert lab.refusal(LEGACY, password="old") == 390100


def test_five_bad_passwords_lock(lab: Lab) -> None:
    """Five wrong passwords lock the user for fifteen minutes, against the right one too."""
    lab.post("users", {"name": LEGACY, "password": STRONG})
    assert [lab.refusal(LEGACY, password="wrong") for _ in range(5)] == [390100] * 5
    assert lab.refusal(LEGACY, password=STRONG) == 390102
    lab.post("clock", {"advance_s": 15 * 60})
    with lab.login(LEGACY, password=STRONG):
        pass


def test_disabled_user_loses_sessions(lab: Lab) -> None:
    """Sessions outlive a key change and end when the user is disabled; the login then says 390101."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    with lab.admin() as admin, lab.login(USER, **by_key(ONE)) as session:
        run(admin, f"ALTER USER {USER} UNSET RSA_PUBLIC_KEY")
        assert run(session, "SELECT CURRENT_USER()") == [(USER,)]
        run(admin, f"ALTER USER {USER} SET RSA_PUBLIC_KEY='{ONE.body}', DISABLED = TRUE")
        with pytest.raises(Error) as caught:
            run(session, "SELECT CURRENT_USER()")
        assert caught.value.errno == 390111
        assert lab.refusal(USER, **by_key(ONE)) == 390101
        run(admin, f'DROP USER IF EXISTS "{USER}"')
        with pytest.raises(ProgrammingError) as caught:
            described(admin)
        assert (caught.value.errno, caught.value.sqlstate) == (2003, "02000")


def test_service_user_may_only_look_at_itself(lab: Lab) -> None:
    """Without rights a user reads its own description; the self_keys setting lets it change its own keys, no more."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    with lab.login(USER, **by_key(ONE)) as session:
        assert described(session)["RSA_PUBLIC_KEY_FP"] == ONE.fingerprint
        for refused in (
            f"DESC USER {ADMIN}",
            f"ALTER USER {USER} SET RSA_PUBLIC_KEY_2 = '{TWO.body}'",
            f"ALTER USER {USER} SET DISABLED = FALSE",
        ):
            with pytest.raises(ProgrammingError) as caught:
                run(session, refused)
            assert (caught.value.errno, caught.value.sqlstate) == (3001, "42501")
        assert all(row[1] is None for row in run(session, "SHOW USERS"))
        lab.post("settings", {"self_keys": True})
        run(session, f"ALTER USER {USER} SET RSA_PUBLIC_KEY_2 = '{TWO.body}'")
        with pytest.raises(ProgrammingError):
            run(session, f"ALTER USER {USER} SET RSA_PUBLIC_KEY = '{TWO.body}' DISABLED = FALSE")
    assert lab.refusal(USER, role="ACCOUNTADMIN", **by_key(ONE)) == 390189


def test_show_users_types(lab: Lab) -> None:
    """SHOW USERS tells flags as text and has_ columns as booleans, times with a zone."""
    with (
        lab.admin() as admin,
        closing(admin.cursor(snowflake.connector.DictCursor)) as cursor,
    ):
        (row,) = cursor.execute("SHOW USERS LIKE 'gs_leg%'").fetchall()
    assert (row["name"], row["disabled"], row["has_password"], row["has_rsa_public_key"]) == (
        LEGACY,
        "false",
        True,
        False,
    )
    assert row["created_on"].utcoffset() is not None


def test_repeated_request_runs_once(lab: Lab) -> None:
    """The driver re-sends a dropped request under its own id, and the statement ran once."""
    lab.post("integrations", {"name": "GAINSIGHT"})
    with lab.admin() as admin:
        lab.fault("alter_integration", "answer_lost")
        run(admin, "ALTER SECURITY INTEGRATION GAINSIGHT REFRESH OAUTH_CLIENT_SECRET_2")
    calls = [call["status"] for call in lab.get("log") if call["op"] == "alter_integration"]
    assert calls == [0, 200]
    assert lab.get("effects").count("alter_integration") == 1


def test_answer_lost_after_alter(lab: Lab) -> None:
    """When every answer is lost the driver gives up, and only DESC USER tells that the key is in."""
    with lab.login(ADMIN, password=DEMO_PASSWORD, network_timeout=2) as admin:
        lab.fault("alter_user_set", "answer_lost", times=None)
        with pytest.raises(Error):
            run(admin, f"ALTER USER {USER} SET RSA_PUBLIC_KEY = '{ONE.body}'")
    with lab.admin() as fresh:
        assert described(fresh)["RSA_PUBLIC_KEY_FP"] == ONE.fingerprint
    assert lab.get("effects").count("alter_user_set") == 1


def test_alter_applied_late(lab: Lab) -> None:
    """A statement may take effect after the client gave up and logged out."""
    with lab.login(ADMIN, password=DEMO_PASSWORD, network_timeout=2) as admin:
        lab.fault("alter_user_set", "applied_late", times=None, seconds=60)
        with pytest.raises(Error):
            run(admin, f"ALTER USER {USER} SET RSA_PUBLIC_KEY = '{ONE.body}'")
    assert lab.alive(USER) == []
    lab.post("clock", {"advance_s": 61})
    assert lab.alive(USER) == [f"{USER}/RSA_PUBLIC_KEY"]
    assert lab.get("effects").count("alter_user_set") == 1


@pytest.mark.parametrize("status", [503, 429])
def test_short_outage_is_bridged(lab: Lab, status: int) -> None:
    """One 503 or 429 at login is retried by the driver itself."""
    lab.post("outages", [{"op": "login", "status": status, "times": 1}])
    with lab.admin():
        pass


def test_long_outage(lab: Lab) -> None:
    """A login that only meets 503 fails without saying anything about the credential."""
    lab.post("outages", [{"op": "login", "status": 503, "times": None}])
    assert lab.refusal(ADMIN, password=DEMO_PASSWORD, login_timeout=1) not in (390100, 390144)


def test_session_renewal(lab: Lab) -> None:
    """An expired session renews itself with the master token; with that expired too, a person must log in."""
    with lab.admin() as admin:
        lab.post("sessions", {"user": ADMIN, "state": "expired"})
        assert run(admin, "SELECT 1") == [(1,)]
        lab.post("sessions", {"user": ADMIN, "state": "master_expired"})
        with pytest.raises(Error):
            run(admin, "SELECT 1")


def refresh(lab: Lab, client_id: str, secret: str, token: str) -> httpx2.Response:
    basic = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()
    return httpx2.post(
        f"{lab.url}/oauth/token-request",
        headers={"Authorization": f"Basic {basic}"},
        data={"grant_type": "refresh_token", "refresh_token": token},
    )


def secrets_of(connection: object) -> dict[str, str]:
    ((text,),) = run(connection, "SELECT SYSTEM$SHOW_OAUTH_CLIENT_SECRETS('GAINSIGHT')")
    return json.loads(text)


def test_client_secret_rotation(lab: Lab) -> None:
    """Both secrets refresh tokens; REFRESH replaces one slot and kills its old value at once."""
    lab.post("integrations", {"name": "GAINSIGHT"})
    token = lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT"}).json()["refresh_token"]
    with lab.admin() as admin:
        old = secrets_of(admin)
        run(admin, "ALTER SECURITY INTEGRATION GAINSIGHT REFRESH OAUTH_CLIENT_SECRET_2")
        new = secrets_of(admin)
        with pytest.raises(ProgrammingError, match="invalid property"):
            run(admin, "ALTER SECURITY INTEGRATION GAINSIGHT SET OAUTH_CLIENT_SECRET = 'mine'")
    assert new["OAUTH_CLIENT_ID"] == old["OAUTH_CLIENT_ID"]
    assert new["OAUTH_CLIENT_SECRET"] == old["OAUTH_CLIENT_SECRET"]
    client_id = new["OAUTH_CLIENT_ID"]
    for secret in (new["OAUTH_CLIENT_SECRET"], new["OAUTH_CLIENT_SECRET_2"]):
        answer = refresh(lab, client_id, secret, token).json()
        assert answer["expires_in"] == 600
    gone = refresh(lab, client_id, old["OAUTH_CLIENT_SECRET_2"], token)
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_client")
    with lab.login("", authenticator="oauth", token=answer["access_token"]) as session:
        assert run(session, "SELECT CURRENT_USER(), CURRENT_ROLE()") == [(LEGACY, "GAINSIGHT_ROLE")]


def test_single_use_refresh_tokens(lab: Lab) -> None:
    """Asked for on the integration, a refresh brings another refresh token and ends all tokens before it."""
    made = lab.post("integrations", {"name": "GAINSIGHT"}).json()
    grant = lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT"}).json()
    with lab.admin() as admin:
        run(admin, "ALTER SECURITY INTEGRATION GAINSIGHT SET OAUTH_SINGLE_USE_REFRESH_TOKENS_REQUIRED = TRUE")
    first = refresh(lab, made["client_id"], made["secrets"][0], grant["refresh_token"]).json()
    assert first["refresh_token"] != grant["refresh_token"]
    again = refresh(lab, made["client_id"], made["secrets"][0], grant["refresh_token"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert lab.refusal("", authenticator="oauth", token=grant["access_token"]) == 390303


def test_the_oracle_tells_secrets_that_were_shown(lab: Lab) -> None:
    """Both slots always hold a secret; only one that a client has shown was ever given to anybody."""
    made = lab.post("integrations", {"name": "GAINSIGHT"}).json()
    grant = lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT"}).json()
    refresh(lab, made["client_id"], made["secrets"][1], grant["refresh_token"])
    seen = {e["value"]: e["facts"]["used"] for e in lab.get("alive") if e["kind"] == "oauth_client_secret"}
    assert seen == {made["secrets"][0]: False, made["secrets"][1]: True}
    lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT", "revoke": True})
    gone = refresh(lab, made["client_id"], made["secrets"][1], grant["refresh_token"])
    assert gone.json()["error"] == "invalid_grant"


def test_a_person_consents_or_declines(lab: Lab) -> None:
    """The scripted person signs in on the page; a wrong password or a foreign address ends there."""
    callback = "http://127.0.0.1:8425/oauth/callback"
    made = lab.post(
        "integrations", {"name": "GAINSIGHT", "properties": {"OAUTH_REDIRECT_URI": callback}}
    ).json()
    lab.post("users", {"name": "ANN", "password": DEMO_PASSWORD})
    query = {"client_id": made["client_id"], "response_type": "code", "redirect_uri": callback, "state": "s"}
    page = f"{lab.url}/oauth/authorize?{urlencode(query)}"
    assert "code=" in people.consent(page, "ANN")
    assert "error=access_denied" in people.consent(page, "ANN", decline=True)
    with pytest.raises(Refused):
        people.consent(page, "ANN", password="wrong")
    with pytest.raises(Refused):
        people.consent(page.replace("8425", "8426"), "ANN")


def test_raw_secret_in_basic_is_refused(lab: Lab) -> None:
    """A secret with `+` must be form-encoded inside HTTP Basic."""
    made = lab.post("integrations", {"name": "GAINSIGHT"}).json()
    token = lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT"}).json()["refresh_token"]
    answer = httpx2.post(
        f"{lab.url}/oauth/token-request",
        auth=(made["client_id"], made["secrets"][0]),
        data={"grant_type": "refresh_token", "refresh_token": token},
    )
    assert answer.json()["error"] == "invalid_client"


def test_consent_removed(lab: Lab) -> None:
    """Taking consent back kills the access token, its session and the refresh token."""
    made = lab.post("integrations", {"name": "GAINSIGHT"}).json()
    tokens = lab.post("consents", {"user": LEGACY, "integration": "GAINSIGHT"}).json()
    oauth = {"authenticator": "oauth", "token": tokens["access_token"]}
    with lab.admin() as admin, lab.login("", **oauth) as session:
        run(admin, f"ALTER USER {LEGACY} REMOVE DELEGATED AUTHORIZATIONS FROM SECURITY INTEGRATION GAINSIGHT")
        with pytest.raises(Error):
            run(session, "SELECT 1")
    assert lab.refusal("", **oauth) == 390303
    answer = refresh(lab, made["client_id"], made["secrets"][0], tokens["refresh_token"])
    assert answer.json()["error"] == "invalid_grant"


def test_consent_page(lab: Lab) -> None:
    """A person consents on the page; the code is good once, at the registered address."""
    lab.post("users", {"name": LEGACY, "password": STRONG})
    there = "https://hub.example/callback"
    made = lab.post("integrations", {"name": "G", "properties": {"OAUTH_REDIRECT_URI": there}}).json()
    answer = httpx2.post(
        f"{lab.url}/oauth/authorize",
        params={
            "client_id": made["client_id"],
            "response_type": "code",
            "redirect_uri": there,
            "scope": "refresh_token session:role:GAINSIGHT_ROLE",
            "state": "s1",
        },
        data={"user": LEGACY, "password": STRONG, "decision": "allow"},
    )
    location = httpx2.URL(answer.headers["Location"])
    assert location.params["state"] == "s1"
    form = {
        "grant_type": "authorization_code",
        "code": location.params["code"],
        "redirect_uri": there,
        "client_id": made["client_id"],
        "client_secret": made["secrets"][1],
    }
    assert httpx2.post(f"{lab.url}/oauth/token-request", data=form).json()["username"] == LEGACY
    assert httpx2.post(f"{lab.url}/oauth/token-request", data=form).json()["error"] == "invalid_grant"


def test_login_history(lab: Lab) -> None:
    """Every login leaves a row with its factor, its result and the symbol the client never saw."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    with lab.login(USER, **by_key(ONE)):
        pass
    lab.refusal(USER, **by_key(TWO))
    query = (
        "SELECT FIRST_AUTHENTICATION_FACTOR, IS_SUCCESS, ERROR_CODE, ERROR_MESSAGE FROM "
        "TABLE(SNOWFLAKE.INFORMATION_SCHEMA.LOGIN_HISTORY_BY_USER(USER_NAME=>%s, RESULT_LIMIT=>100)) "
        "ORDER BY EVENT_TIMESTAMP DESC"
    )
    with lab.admin() as admin:
        assert run(admin, query, USER) == [
            ("RSA_KEYPAIR", "NO", 390144, "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH"),
            ("RSA_KEYPAIR", "YES", None, None),
        ]
        lab.post("settings", {"login_history_delay_s": 60})
        assert run(admin, query, USER) == []
        assert len(run(admin, query.replace("ORDER", "WHERE IS_SUCCESS = 'NO' ORDER"), USER)) == 0


def test_access_tokens_rotate(lab: Lab) -> None:
    """ROTATE PAT shows a new secret once and the old one works on; REMOVE ends it."""
    with lab.admin() as admin:
        ((_, first),) = run(admin, f"ALTER USER {USER} ADD PAT HUB ROLE_RESTRICTION = 'GAINSIGHT_ROLE'")
        ((_, second, renamed),) = run(admin, f"ALTER USER {USER} ROTATE PAT HUB")
        for secret in (first, second):
            with lab.login(USER, authenticator="PROGRAMMATIC_ACCESS_TOKEN", token=secret):
                pass
        run(admin, f'ALTER USER {USER} REMOVE PAT "{renamed}"')
        assert len(run(admin, f"SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER {USER}")) == 1
    assert lab.refusal(USER, authenticator="PROGRAMMATIC_ACCESS_TOKEN", token=first) == 394400


def test_network_policy(lab: Lab) -> None:
    """A user's network policy refuses other addresses before the credential is looked at."""
    with lab.admin() as admin:
        run(admin, "CREATE NETWORK POLICY OFFICE ALLOWED_IP_LIST = ('203.0.113.0/24')")
        run(admin, f"ALTER USER {LEGACY} SET NETWORK_POLICY = OFFICE")
    assert lab.refusal(LEGACY, password="anything") == 390422


def test_refused_value_and_wrong_identity(lab: Lab) -> None:
    """The lab's own faults: a policy refuses a good key, and a login lands on somebody else."""
    with lab.admin() as admin:
        lab.fault("alter_user_set", "refuse_value")
        with pytest.raises(ProgrammingError, match="rejected by current policy"):
            run(admin, f"ALTER USER {USER} SET RSA_PUBLIC_KEY = '{ONE.body}'")
    lab.fault("login", "wrong_identity")
    with lab.admin() as admin:
        assert run(admin, "SELECT CURRENT_USER()") == [("SOMEBODY_ELSE",)]


def jwt(
    pair: KeyPair = ONE, *, alg: str = "RS256", account: str = "TESTACCT", age: float = 0, **claims: object
) -> str:
    """A login token made by hand, so that each part can lie."""
    now = time.time() - age
    subject = f"{account}.{USER}"
    body = {"iss": f"{subject}.{ONE.fingerprint}", "sub": subject, "iat": now, "exp": now + 60} | claims
    parts = [json.dumps({"alg": alg, "typ": "JWT"}), json.dumps(body)]
    head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    signature = pair.private.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256())
    return head + "." + base64.urlsafe_b64encode(signature).decode().rstrip("=")


@pytest.mark.parametrize(
    ("lies", "symbol"),
    [
        ({}, None),
        ({"pair": TWO}, "JWT_TOKEN_INVALID_SIGNATURE"),
        ({"alg": "none"}, "JWT_TOKEN_INVALID_ALGORITHM"),
        ({"account": "OTHER"}, "JWT_TOKEN_INVALID_ACCOUNT"),
        ({"age": 3600}, "JWT_TOKEN_INVALID_ISSUE_TIME"),
        ({"exp": 1}, "JWT_TOKEN_INVALID_EXPIRATION_TIME"),
        ({"exp": None}, "JWT_TOKEN_MISSING_ISSUE_OR_EXPIRATION_TIME"),
        ({"sub": "TESTACCT.KEYTURN_ADMIN"}, "JWT_TOKEN_INVALID_USER_IN_ISSUER"),
        ({"iss": f"TESTACCT.{USER}.{TWO.fingerprint}"}, "JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH"),
    ],
)
def test_every_part_of_a_jwt_counts(lies: dict, symbol: str | None) -> None:
    """A token opens only with a registered key's own signature, this account, this user and fresh times."""
    claims, now = jwtlogin.read_token(jwt(**lies)), datetime.now(UTC)
    problem = jwtlogin.problem_with(
        claims, account="TESTACCT", login_name=USER, slots=[read_key(ONE.body, now)], now=now
    )
    assert (problem.symbol if problem else None) == symbol


def test_older_drivers_compress(lab: Lab) -> None:
    """Drivers 3.x and 4.x gzip every body."""
    login = {"data": {"LOGIN_NAME": ADMIN, "PASSWORD": DEMO_PASSWORD, "SOMETHING_NEW": 1}}
    answer = httpx2.post(
        f"{lab.url}/session/v1/login-request?request_id=1",
        content=gzip.compress(json.dumps(login).encode()),
        headers={"Content-Encoding": "gzip"},
    )
    assert answer.json()["success"]


def test_forced_change_needs_its_ticket(lab: Lab) -> None:
    """MUST_CHANGE_PASSWORD answers 390106 with a ticket; 4.x sends it back with PASSWORD null and the new value."""
    lab.post("users", {"name": LEGACY, "password": STRONG, "must_change_password": True})

    def login(**data: str | None) -> dict:
        ticket = data.pop("ticket", None)
        body = {"data": {"LOGIN_NAME": LEGACY} | data, "inFlightCtx": ticket}
        return httpx2.post(f"{lab.url}/session/v1/login-request", json=body).json()

    first = login(PASSWORD=STRONG)
    assert (first["code"], first["data"]["nextAction"]) == ("390106", "PWD_CHANGE")
    changed = {"PASSWORD": None, "CHOSEN_NEW_PASSWORD": STRONG + "2"}
    assert login(ticket="guess", **changed)["code"] == "390100"
    assert login(ticket=first["data"]["inFlightCtx"], **changed)["success"]
    assert login(PASSWORD=STRONG + "2")["success"]


@pytest.mark.parametrize(("how", "code"), [("mfa", 390197), ("policy", 390202)])
def test_a_password_alone_can_be_turned_away(lab: Lab, how: str, code: int) -> None:
    """Only the right one is told so, with a code of its own; a key pair of the same user still opens."""
    lab.post("users", {"name": LEGACY, "password": STRONG, "RSA_PUBLIC_KEY": ONE.body, "password_alone": how})
    assert lab.refusal(LEGACY, password=STRONG) == code
    assert lab.refusal(LEGACY, password="ktlab-wrong") == 390100
    with lab.login(LEGACY, **by_key(ONE)):
        pass


def test_slow_to_settle(lab: Lab) -> None:
    """With the settling dial on, DESC USER shows a key before it opens and a removed one lingers."""
    lab.post("users", {"name": USER, "RSA_PUBLIC_KEY": ONE.body})
    lab.post("dials", {"settle_s": 20})
    assert lab.refusal(USER, **by_key(ONE)) == 390144
    lab.post("clock", {"advance_s": 21})
    with lab.admin() as admin, lab.login(USER, **by_key(ONE)):
        run(admin, f"ALTER USER {USER} UNSET RSA_PUBLIC_KEY, RSA_PUBLIC_KEY_2")
    assert lab.alive(USER) == [f"{USER}/LINGERING_KEY"]
    with lab.login(USER, **by_key(ONE)):
        pass


@pytest.mark.parametrize(
    ("text", "value"),
    [("'a''b'", "a'b"), (r"'a\'b'", "a'b"), (r"'a\\'", "a\\"), ("$$it's$$", "it's"), (r"'\n%'", "\n%")],
)
def test_strings_read_back(text: str, value: str) -> None:
    """Doubled quotes and backslashes both escape, comments and the last semicolon mean nothing."""
    cursor = Cursor(f"SELECT /* c; */ {text} -- '\n ;")
    cursor.expect("SELECT")
    assert cursor.string() == value
    cursor.end()


def test_names_fold_unless_quoted() -> None:
    """An unquoted name is upper case; a quoted one is taken as it is."""
    cursor = Cursor('gs_user "gs_user" "a""b"')
    assert [cursor.name() for _ in range(3)] == ["GS_USER", "gs_user", 'a"b']
