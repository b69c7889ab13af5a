"""The door to PostgreSQL: what a refused login means, what ends in time, and which sessions are used again."""

import datetime as dt
import ipaddress
import os
import socket
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CallInsideTransaction,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.keymaking.scram import scram_keys
from keyturn.transport import sql
from keyturn.transport.sql import fresh, pool, words

pytestmark = pytest.mark.postgres


@pytest.fixture
def role(cluster, prefix):
    return cluster.create_role(prefix)


def outcome(params):
    """The error a login ends in."""
    with pytest.raises(KeyturnError) as caught:
        sql.login(params).close()
    return caught.value


def test_a_login_reads_who_it_is(role, params):
    """A fresh session answers with its own role."""
    with sql.login(params(role.name, role.password)) as session:
        assert session.query("SELECT session_user, $1", "it's") == [(role.name, "it's")]
        assert not session.is_superuser
        assert session.server_version > 100000


@pytest.mark.parametrize(
    ("alter", "change", "kind", "code"),
    [
        ("", {"user": "nobody_here"}, CredentialRejected, "28P01"),
        ("PASSWORD NULL", {}, CredentialRejected, "28P01"),
        ("VALID UNTIL '2001-01-01'", {}, CredentialRejected, "28P01"),
        ("NOLOGIN", {}, CredentialRejected, "28000"),
        ("CONNECTION LIMIT 0", {}, VendorThrottled, "53300"),
        ("", {"database": "no_such"}, InvalidInput, "3D000"),
        ("", {"port": 1}, VendorUnavailable, "refused"),
        ("", {"sslmode": "require"}, VendorUnavailable, "tls"),
        ("", {"host": "no-such-host.invalid", "sslmode": "require"}, VendorUnavailable, "dns"),
    ],
)
def test_only_two_answers_are_a_definite_no(cluster, role, params, alter, change, kind, code):
    """A refused password and a role without LOGIN are refusals; all else says nothing about the credential."""
    if alter:
        with cluster.connect() as superuser:
            superuser.execute(f"ALTER ROLE {role.name} {alter}")
    error = outcome(params(**{"user": role.name, "password": role.password, **change}))
    assert type(error) is kind
    assert error.facts["code"] == code
    assert role.password not in str(error.__reduce__())


def test_a_missing_connect_right_is_named(cluster, role, params, prefix):
    """A password that works on a database it may not enter is no refusal."""
    cluster.create_database(f"{prefix}_db")
    with cluster.connect() as superuser:
        superuser.execute(f"REVOKE CONNECT ON DATABASE {prefix}_db FROM PUBLIC")
    error = outcome(params(role.name, role.password, database=f"{prefix}_db"))
    assert isinstance(error, PermissionMissing)
    assert (error.facts["right"], error.facts["code"]) == ("CONNECT", "42501")


def test_a_wrong_language_hides_no_code(role, params, monkeypatch):
    """The SQLSTATE comes from the protocol's own field, not from the server's words."""
    monkeypatch.setattr(words, "_TEXTS", ())
    assert outcome(params(role.name, "wrong")).facts["code"] == "28P01"


def test_without_the_verbose_setting_the_english_words_decide(role, params, monkeypatch):
    """Where libpq cannot be asked for SQLSTATEs, PostgreSQL's English texts are read."""
    monkeypatch.setattr(fresh, "_library", lambda: None)
    assert outcome(params(role.name, "wrong")).facts["code"] == "28P01"


def test_environment_and_files_have_no_say(role, params, monkeypatch, tmp_path):
    """PG* variables, a password file and a service cannot change who logs in or how."""
    (tmp_path / "service").write_text("[wrong]\nhost=192.0.2.1\nuser=wrong\noptions=-c search_path=wrong\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "service"))
    monkeypatch.setenv("PGSERVICE", "wrong")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=wrong")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGPASSWORD", role.password)
    with sql.login(params(role.name, role.password)) as session:
        assert session.query("SHOW search_path") == [('"$user", public',)]
    assert outcome(params(role.name, "wrong")).facts["code"] == "28P01"
    assert outcome(params(role.name, "")).facts["code"] == "empty"


def test_plain_connections_need_the_operator(role, params):
    """`disable` and `prefer` work only for hosts that the network policy opens; a private address likewise."""
    for mode in ("disable", "prefer"):
        with pytest.raises(NotPermitted):
            sql.login(params(role.name, role.password, network=NetworkPolicy(), sslmode=mode))
    with pytest.raises(NotPermitted, match="loopback"):
        sql.login(params(role.name, role.password, network=NetworkPolicy(), sslmode="verify-full"))
    with pytest.raises(InvalidInput, match="verify-ca"):
        sql.login(params(role.name, role.password, sslmode="verify-ca"))


def test_keys_open_what_the_password_opens(cluster, role, params):
    """A login by SCRAM keys works exactly while the server holds the verifier made with them."""
    keys = scram_keys("correct-horse")
    with cluster.connect() as superuser:
        superuser.execute(f"ALTER ROLE {role.name} PASSWORD '{keys.verifier()}'")
    pair = (keys.client_key, keys.server_key)
    sql.login(params(role.name, "correct-horse")).close()
    sql.login(params(role.name, "anything", keys=pair)).close()
    other = scram_keys("correct-horse")
    wrong = params(role.name, "correct-horse", keys=(other.client_key, other.server_key))
    assert outcome(wrong).facts["code"] == "28P01"


@pytest.fixture
def silent():
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_silent_server_ends_the_login_in_time(params, silent):
    """A login ends within its deadline although nobody answers."""
    started = time.monotonic()
    error = outcome(params("x", "y", port=silent, deadline_s=0.3))
    assert (type(error), error.facts["code"]) == (VendorUnavailable, "timeout")
    assert time.monotonic() - started < 2


def test_no_call_inside_a_transaction(role, params):
    """Neither a login nor a statement on an open session leaves while a transaction of ours is open."""
    ours = params(role.name, role.password)
    with boundary.transaction(), pytest.raises(CallInsideTransaction):
        sql.login(ours)
    with boundary.transaction(), pytest.raises(CallInsideTransaction), sql.admin(ours):
        pass
    with sql.login(ours) as session, boundary.transaction(), pytest.raises(CallInsideTransaction):
        session.query("SELECT 1")


def test_a_lock_wait_is_a_definite_nothing_changed(cluster, params, rotator, role):
    """The server gives up before we do, so a blocked change is known not to have happened."""
    with cluster.connect() as superuser, superuser.transaction():
        superuser.execute(f"ALTER ROLE {role.name} CONNECTION LIMIT 5")
        ours = params(rotator.name, rotator.password, deadline_s=0.6)
        with sql.admin(ours) as session:
            with pytest.raises(VendorUnavailable) as caught:
                session.change(f"ALTER ROLE {role.name} NOLOGIN")
            assert caught.value.facts["code"] == "57014"
            assert session.is_usable()


def test_a_session_killed_during_a_change_is_unknown(cluster, params, rotator):
    """A connection lost after a change was sent leaves the outcome open; for a read nothing is lost."""
    for act, kind in (("change", OutcomeUnknown), ("query", VendorUnavailable)):
        with sql.login(params(rotator.name, rotator.password)) as session:
            pid = session.query("SELECT pg_backend_pid()")[0][0]

            def kill(pid=pid):
                time.sleep(0.1)
                with cluster.connect() as superuser:
                    superuser.execute(f"SELECT pg_terminate_backend({pid})")

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(kind):
                getattr(session, act)("SELECT pg_sleep(5)")
            killer.join()


def pid_of(ours):
    with sql.admin(ours) as session:
        return session.query("SELECT pg_backend_pid()")[0][0]


def test_administrators_sessions_are_used_again_until_they_break(cluster, params, rotator):
    """The same login gets the same session; a session ended by the server is replaced before anything is sent."""
    ours = params(rotator.name, rotator.password)
    first = pid_of(ours)
    assert pid_of(ours) == first
    with sql.admin(ours) as session, pytest.raises(KeyturnError):
        session.change("SELECT 1/0")
    assert pid_of(ours) == first
    with cluster.connect() as superuser:
        superuser.execute(f"SELECT pg_terminate_backend({first}, 3000)")
    second = pid_of(ours)
    assert second != first
    sql.close_idle()
    assert pid_of(ours) != second


def plans(session):
    return int(session.query("SELECT count(*) FROM pg_prepared_statements")[0][0])


@pytest.mark.parametrize("swap", ["DEALLOCATE ALL", "another's"])
def test_a_pooler_that_swaps_sessions_costs_a_plan_and_no_answer(params, rotator, swap):
    """Its next session has not our plan, or has it from another of our processes already."""

    def ask(session, word):
        return session.query("SELECT $1::text", word, again=True)

    with sql.login(params(rotator.name, rotator.password)) as session:
        assert [ask(session, "a"), ask(session, "b")] == [[("a",)], [("b",)]]
        assert plans(session) == 1
        if swap == "another's":
            session._plans.clear()
        else:
            session.change(swap)
        assert [ask(session, "c"), ask(session, "d")] == [[("c",)], [("d",)]]
        assert session._plans is None, "it asks plainly from now on"
        with pytest.raises(UnexpectedAnswer):
            session.query("SELECT nonsense", again=True)


def test_an_old_session_never_serves_another_password(params, rotator):
    """The pool goes by the password's fingerprint: a wrong one is refused although a session stands ready."""
    pid_of(params(rotator.name, rotator.password))
    with pytest.raises(CredentialRejected), sql.admin(params(rotator.name, "wrong")):
        pass


def test_idle_sessions_expire(params, rotator, monkeypatch):
    """After the idle time the next caller gets a fresh session."""
    ours = params(rotator.name, rotator.password)
    first = pid_of(ours)
    monkeypatch.setattr(pool, "IDLE_S", 0.0)
    assert pid_of(ours) != first


def test_the_pool_is_bounded_and_shared_by_threads(cluster, params, rotator):
    """Many threads share a few sessions, and each gets its own answer."""
    ours = params(rotator.name, rotator.password)
    seen, wrong = set(), []

    def work(number):
        for _ in range(5):
            with sql.admin(ours) as session:
                pid, answer = session.query("SELECT pg_backend_pid(), $1", str(number))[0]
                seen.add(pid)
                if answer != str(number):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(seen) <= pool.PER_LOGIN + 1


def test_a_persons_query_can_only_read(role, params, cluster):
    """A sample query writes nothing and cannot carry a second statement."""
    with cluster.connect() as superuser:
        superuser.execute("CREATE TABLE IF NOT EXISTS probe (n int); GRANT ALL ON probe TO PUBLIC")
    with sql.login(params(role.name, role.password)) as session:
        assert session.read_only("SELECT 7", "SELECT count(*) FROM probe") == [[("7",)], [("0",)]]
    for text in ("INSERT INTO probe VALUES (1)", "SELECT 1; COMMIT; INSERT INTO probe VALUES (1)"):
        with sql.login(params(role.name, role.password)) as session, pytest.raises(KeyturnError):
            session.read_only("SELECT 7", text)
    with cluster.connect() as superuser:
        assert superuser.execute("SELECT count(*) FROM probe").fetchone() == (0,)


def test_names_and_values_cannot_break_out(role, params):
    """Identifiers and literals arrive as written, whatever they hold."""
    odd = "o\"dd'; DROP ROLE x; --\\"
    with sql.login(params(role.name, role.password)) as session:
        text = session.compose("SELECT {value} AS {0}", odd, value=odd)
        assert session.query(text) == [(odd,)]


def test_a_trust_line_is_noticed(cluster, params, prefix):
    """A server that asks for no password proves nothing, so the login there is no acceptance."""
    path = cluster.log_path.parent / "data" / "pg_hba.conf"
    before = path.read_text()
    path.write_text(f"host all {prefix}_open 127.0.0.1/32 trust\n{before}")
    try:
        with cluster.connect() as superuser:
            superuser.execute(f"CREATE ROLE {prefix}_open LOGIN")
            superuser.execute("SELECT pg_reload_conf()")
            superuser.execute("SELECT pg_sleep(0.2)")
        error = outcome(params(f"{prefix}_open", os.urandom(8).hex()))
        assert (type(error), error.facts["code"]) == (UnexpectedAnswer, "trust")
    finally:
        path.write_text(before)
        with cluster.connect() as superuser:
            superuser.execute("SELECT pg_reload_conf()")


@pytest.fixture
def authority(cluster):
    """The server speaks TLS with a certificate for 127.0.0.1 while the test runs; its PEM."""
    data = cluster.log_path.parent / "data"
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyturn test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    certificate = (
        builder.add_extension(names, False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    owner = data.stat()
    for file, content in (("server.crt", pem), ("server.key", secret)):
        (data / file).write_bytes(content)
        (data / file).chmod(0o600)
        os.chown(data / file, owner.st_uid, owner.st_gid)

    def switch(state):
        with cluster.connect() as superuser:
            superuser.execute(f"ALTER SYSTEM SET ssl = {state}")
            superuser.execute("SELECT pg_reload_conf()")
            superuser.execute("SELECT pg_sleep(0.2)")

    switch("on")
    yield pem.decode()
    switch("off")


def test_the_server_must_prove_its_name(cluster, role, params, authority):
    """verify-full accepts the server only under the given authority; SCRAM keys and the pool work under TLS too."""
    keys = scram_keys("correct-horse")
    with cluster.connect() as superuser:
        superuser.execute(f"ALTER ROLE {role.name} PASSWORD '{keys.verifier()}'")
    known = {"sslmode": "verify-full", "ca": authority}
    pair = (keys.client_key, keys.server_key)
    for more in ({}, {"keys": pair}):
        with sql.login(params(role.name, "correct-horse", **known, **more)) as session:
            assert session.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [("t",)]
    ours = params(role.name, "correct-horse", **known)
    assert pid_of(ours) == pid_of(ours)
    error = outcome(params(role.name, "correct-horse", sslmode="verify-full"))
    assert error.facts["code"] == "tls"
