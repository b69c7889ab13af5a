"""The Redshift part, judged by Amazon's own driver, unmodified."""

import hashlib

import psycopg
import pytest
import redshift_connector
from tests.compliance.lab import or_skip

from keyturn_lab.parts import postgres, redshift

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    or_skip(postgres.find_binaries)
    with redshift.RedshiftServer() as running:
        yield running


def execute(server, user, *statements):
    """As the driver sends them, by the extended protocol."""
    session = redshift_connector.connect(**server.login(user))
    session.autocommit = True
    try:
        for statement in statements:
            session.cursor().execute(statement)
    finally:
        session.close()


def test_the_driver_logs_in_and_is_refused_with_28000(server):
    """The right password opens; a wrong one and an unknown user are what the driver knows as a refused login."""
    user = server.create_user("door")
    assert server.accepts(user)
    for wrong in (redshift.User("door", "Wrong-1234"), redshift.User("nobody", "Wrong-1234")):
        assert not server.accepts(wrong)


def test_a_user_changes_its_own_password_by_digest(server):
    """The digest of password and name is what logs in afterwards; live sessions go on."""
    user = server.create_user("own")
    live = redshift_connector.connect(**server.login(user))
    digest = hashlib.md5(b"Changed-1234own").hexdigest()
    execute(server, user, f"ALTER USER own PASSWORD 'md5{digest}'")
    assert server.accepts(redshift.User("own", "Changed-1234"))
    assert not server.accepts(user)
    live.cursor().execute("SELECT 1")
    live.close()


@pytest.mark.parametrize("form", ["digest", "plain"])
def test_sha256_users_log_in_by_request_13(server, form):
    """Both forms work with Amazon's driver and with nobody else's; DISABLE ends it."""
    admin = server.create_user(f"admin_{form}", superuser=True)
    user = server.create_user(f"sha_{form}")
    digest = hashlib.sha256(b"Secret-1234" + b"pepper").hexdigest()
    text = f"sha256|{digest}|pepper" if form == "digest" else "sha256|Secret-1234"
    execute(server, admin, f"ALTER USER {user.name} PASSWORD '{text}'")
    assert server.accepts(redshift.User(user.name, "Secret-1234"))
    assert not server.accepts(redshift.User(user.name, "Secret-12345"))
    assert not server.accepts(user)
    with pytest.raises(psycopg.OperationalError, match="authentication method"):
        psycopg.connect(
            host=server.host, port=server.port, user=user.name, password="Secret-1234", dbname="postgres"
        )
    execute(server, admin, f"ALTER USER {user.name} PASSWORD DISABLE")
    assert not server.accepts(redshift.User(user.name, "Secret-1234"))


def test_weak_passwords_are_refused(server):
    """Redshift's rules for a password in clear text; the session goes on after a refusal."""
    user = server.create_user("rules")
    session = redshift_connector.connect(**server.login(user))
    session.autocommit = True
    for weak in ("short1A", "nouppercase1", "NOLOWERCASE1", "NoDigitsHere", "With/Slash1"):
        with pytest.raises(redshift_connector.error.ProgrammingError, match="rules"):
            session.cursor().execute(f"ALTER USER rules PASSWORD '{weak}'")
    session.cursor().execute("ALTER USER rules PASSWORD 'Good-Enough1'")
    session.close()
    assert server.accepts(redshift.User("rules", "Good-Enough1"))


def test_sessions_are_listed_to_those_who_may(server):
    """A user sees its own sessions, a superuser all, with names padded as Redshift pads them."""
    user, admin = server.create_user("seen"), server.create_user("seer", superuser=True)
    live = redshift_connector.connect(**server.login(user))
    found = {}
    for who in (user, admin):
        session = redshift_connector.connect(**server.login(who))
        cursor = session.cursor()
        cursor.execute("SELECT DISTINCT user_name FROM stv_sessions")
        found[who.name] = {name for (name,) in cursor.fetchall()}
        session.close()
    live.close()
    assert found["seen"] == {"seen".ljust(50)}
    assert {"seen".ljust(50), "seer".ljust(50)} <= found["seer"]
