"""One user, two passwords and two users on a real server: what is written, what is proven, what dies."""

import threading

import pymysql
import pytest
from tests.waiting import wait_for

from keyturn.connectors.mysql import hashes
from keyturn.connectors.mysql.connector import capabilities
from keyturn.errors import CapReached, Conflict, InvalidInput, PermissionMissing
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.parts.mariadb import User, native_hash

from .conftest import material

ONE = capabilities("password", {"admin_user": "rotator"})
BOTH = capabilities("password", {"pattern": "overlap"})
TWO = capabilities("password", {"pattern": "two"})
FREE = Ref(slot="user_b")


def opens(server, value):
    """Whether an ordinary client gets in with this material's password."""
    return server.accepts(User(value["user"], value["password"]))


def live(server, value):
    """An ordinary client's open session."""
    return pymysql.connect(**server.login(User(value["user"], value["password"])), autocommit=True)


@pytest.mark.parametrize("path", ["self", "admin"])
def test_one_user_is_set_and_the_old_value_dies(server, access, user, rotator, path):
    """After `set`, the new value works for us and for an ordinary client, and the old one is refused with 1045."""
    reach = access(user, rotator if path == "admin" else None)
    before = ONE.verifier.verify(reach, material(user))
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    after = ONE.verifier.verify(reach, made.material)
    assert after.verdict is Verdict.ACCEPTED
    assert after.identity == before.identity
    assert after.identity["principal"] == f"{user.name}@%"
    assert opens(server, made.material)
    old = ONE.verifier.verify(reach, material(user))
    bogus = ONE.verifier.verify(reach, ONE.verifier.bogus(made.material))
    assert (old.verdict, old.code) == (bogus.verdict, bogus.code) == (Verdict.REJECTED, "1045")


def test_no_password_is_ever_in_the_servers_log(server, access, user, rotator, pair):
    """With every statement logged, the log holds hashes and no password, also when a statement is refused."""
    reach, both = access(user, rotator), access(user, rotator, pattern="overlap")
    made = [
        ONE.maker.make(access(user), Ref()),
        ONE.maker.make(reach, Ref()),
        BOTH.maker.make(both, Ref()),
        TWO.maker.make(pair.access, FREE),
    ]
    ONE.setter.set(access(user), made[0].ref, made[0].material)
    ONE.setter.set(reach, made[1].ref, made[1].material)
    BOTH.setter.set(both, made[2].ref, made[2].material)
    TWO.setter.set(pair.access, FREE, made[3].material)
    weak = server.create_user(f"{user.name}_weak")
    refused = ONE.maker.make(reach, Ref())
    with pytest.raises(PermissionMissing):
        ONE.setter.set(access(user, weak), refused.ref, refused.material)
    log = server.read_log()
    for each in (*made, refused):
        assert each.material["password"] not in log
    for each in made:
        assert native_hash(each.material["password"]) in log


def test_an_ed25519_user_keeps_its_plugin(server, access, prefix, rotator):
    """A password of any length logs in by our own signature; `set` writes the key that the server would."""
    user = server.create_user(prefix, plugin="ed25519")
    reach = access(user, rotator, plugin="ed25519")
    assert len(user.password) != 32
    assert ONE.verifier.verify(reach, material(user)).verdict is Verdict.ACCEPTED
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    assert ONE.verifier.verify(reach, made.material).verdict is Verdict.ACCEPTED
    assert ONE.verifier.verify(reach, material(user)).code == "1045"
    by_itself = access(User(user.name, made.material["password"]), plugin="ed25519")
    again = ONE.maker.make(by_itself, Ref())
    ONE.setter.set(by_itself, again.ref, again.material)
    assert ONE.verifier.verify(reach, again.material).verdict is Verdict.ACCEPTED


def test_a_plugin_is_never_changed_on_the_way(server, access, prefix, rotator):
    """A user of another plugin than the connection says is refused before anything is written."""
    user = server.create_user(prefix, plugin="ed25519")
    for reach in (access(user, rotator), access(user)):
        made = ONE.maker.make(reach, Ref())
        with pytest.raises(InvalidInput, match="ed25519") as caught:
            ONE.setter.set(reach, made.ref, made.material)
        assert caught.value.facts["field"] == "plugin"
    assert ONE.verifier.verify(access(user), material(user)).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("alter", "verdict", "code", "words"),
    [
        ("ACCOUNT LOCK", Verdict.REJECTED, "4151", "locked"),
        ("WITH MAX_USER_CONNECTIONS -1", Verdict.UNKNOWN, "1226", "no more connections"),
        ("PASSWORD EXPIRE", Verdict.UNKNOWN, "1862", "expired"),
        ("IDENTIFIED VIA mysql_native_password USING 'invalid'", Verdict.REJECTED, "1045", "no password"),
        ("IDENTIFIED BY 'another'", Verdict.REJECTED, "1045", "another password"),
        ("REQUIRE X509", Verdict.REJECTED, "1045", "certificate"),
    ],
)
def test_each_cause_has_its_own_diagnosis(server, access, user, rotator, alter, verdict, code, words):
    """With an administrator the probe says which of the server's like-sounding refusals it is."""
    server.run(f"ALTER USER {user.account} {alter}")
    probe = ONE.verifier.verify(access(user, rotator), material(user))
    assert (probe.verdict, probe.code) in {(verdict, code), (verdict, "1820")}
    assert words in probe.detail


def test_databases_say_their_own(server, access, user, rotator):
    """A missing database and a missing right on one are told apart from a refused password."""
    server.run("CREATE DATABASE IF NOT EXISTS closed")
    probe = ONE.verifier.verify(access(user, rotator, database="closed"), material(user))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "1044")
    root_like = server.create_user(f"{user.name}_all")
    server.run(f"GRANT SELECT ON *.* TO {root_like.account}")
    probe = ONE.verifier.verify(access(root_like, rotator, database="no_such"), material(root_like))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "1049")


def test_a_sample_query_reads_and_only_reads(server, access, user):
    """A credential that cannot do what its consumers do is not proven; a query that writes is refused by the server."""
    server.run(
        f"CREATE DATABASE {user.name}",
        f"CREATE TABLE {user.name}.orders (n int)",
        f"GRANT SELECT ON {user.name}.* TO {user.account}",
    )
    reach = access(user, sample_query=f"SELECT 1 FROM {user.name}.orders;")
    assert ONE.verifier.verify(reach, material(user)).rights == {"USAGE", "sample_query"}
    server.run(f"REVOKE SELECT ON {user.name}.* FROM {user.account}")
    probe = ONE.verifier.verify(reach, material(user))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "1142")
    with pytest.raises(InvalidInput):
        ONE.verifier.verify(access(user, sample_query="DROP TABLE x"), material(user))


def test_rows_of_other_hosts_are_left_alone(server, access, prefix, rotator):
    """The same name with another host part may be somebody else's: only rows that hold our value are written."""
    ours, theirs = server.create_user(prefix), server.create_user(prefix, host="10.9.9.9")
    twin = User(prefix, ours.password, "10.8.8.8")
    server.run(f"CREATE USER {twin.account} IDENTIFIED BY PASSWORD '{native_hash(ours.password)}'")
    reach = access(ours, rotator)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    stored = {each["id"]: each["facts"]["verifier"] for each in server.alive() if each["owner"] == prefix}
    new = native_hash(made.material["password"])
    assert stored == {
        f"{prefix}@%": new,
        f"{prefix}@10.8.8.8": new,
        f"{prefix}@10.9.9.9": native_hash(theirs.password),
    }
    stranger = access(User(prefix, password()), rotator)
    with pytest.raises(InvalidInput, match="several hosts"):
        ONE.setter.set(stranger, made.ref, ONE.maker.make(stranger, Ref()).material)
    named = access(ours, rotator, user_host="10.7.7.7")
    with pytest.raises(InvalidInput, match="no account") as caught:
        ONE.setter.set(named, made.ref, ONE.maker.make(named, Ref()).material)
    assert caught.value.facts["field"] == "user_host"


def test_sessions_outlive_a_change_and_end_only_when_asked(server, access, user, rotator):
    """A session opened with the old password lives on, is counted, and ends where the connection says so."""
    with live(server, material(user)) as old:
        reach = access(user, rotator)
        made = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, made.ref, made.material)
        old.ping()
        wait_for(
            lambda: [e.facts["sessions"] for e in ONE.discoverer.discover(reach)] == [1]
        )  # ours ends a moment later
        reach = access(User(user.name, made.material["password"]), rotator, end_sessions=True)
        again = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, again.ref, again.material)
        with pytest.raises(pymysql.err.Error):
            old.ping()
    with live(server, again.material) as fresh:
        ONE.setter.set(access(user, rotator), again.ref, again.material)
        fresh.ping()


def test_without_process_nobody_looks_sessionless(server, access, user, prefix):
    """An administrator that cannot see sessions is told so; it does not report that there are none."""
    weak = server.create_user(f"{prefix}_weak")
    server.run(
        f"GRANT CREATE USER ON *.* TO {weak.account}", f"GRANT SELECT ON mysql.global_priv TO {weak.account}"
    )
    with pytest.raises(PermissionMissing) as caught:
        ONE.revoker.revoke(access(user, weak), Ref(), material(user))
    assert "PROCESS" in caught.value.facts["right"]


def test_what_cannot_be_ended_is_said_before_anything_changes(server, access, user, prefix):
    """A change that was made is never reported as one that was not: the right to end sessions is looked for first."""
    weak = server.create_user(f"{prefix}_weak")
    server.run(
        f"GRANT CREATE USER, PROCESS ON *.* TO {weak.account}",
        f"GRANT SELECT ON mysql.global_priv TO {weak.account}",
    )
    reach = access(user, weak, end_sessions=True)
    made = ONE.maker.make(reach, Ref())
    with pytest.raises(PermissionMissing, match="end other users"):
        ONE.setter.set(reach, made.ref, made.material)
    with pytest.raises(PermissionMissing, match="end other users"):
        ONE.revoker.revoke(reach, Ref(), material(user))
    assert opens(server, material(user))


def test_a_server_that_takes_no_hashes_gets_no_password(server, access, user, rotator):
    """With a password check that insists on clear text the rotation stops and says which setting is in the way."""
    reach = access(user, rotator)
    made = ONE.maker.make(reach, Ref())
    server.run("INSTALL SONAME 'simple_password_check'", "SET GLOBAL strict_password_validation = ON")
    try:
        with pytest.raises(PermissionMissing) as caught:
            ONE.setter.set(reach, made.ref, made.material)
    finally:
        server.run("UNINSTALL SONAME 'simple_password_check'")
    assert "strict_password_validation" in caught.value.facts["right"]
    assert made.material["password"] not in server.read_log()
    assert opens(server, material(user))


def test_revoking_one_user_closes_it_unless_it_holds_a_successor(server, access, user, rotator):
    """The old value of a rotated user counts as gone; the value in the slot is revoked with its sessions."""
    reach = access(user, rotator)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    ONE.revoker.revoke(reach, Ref(), material(user))
    assert opens(server, made.material)
    with live(server, made.material) as session:
        for _ in range(2):
            ONE.revoker.revoke(reach, made.ref, made.material)
        with pytest.raises(pymysql.err.Error):
            session.ping()
    assert ONE.verifier.verify(reach, made.material).code == "1045"
    assert ONE.lister.list(reach) == ()
    ONE.setter.set(reach, made.ref, made.material)
    assert opens(server, made.material)


def test_two_passwords_under_load_nobody_notices(server, access, user, rotator):
    """While the password changes and the old one ends, a client that logs in afresh all the time is never refused."""
    reach = access(user, rotator, pattern="overlap")
    serving, refused, logins, over = [material(user)], [], [], threading.Event()

    def client():
        while not over.is_set():
            using = serving[0]
            (logins if opens(server, using) else refused).append(1)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    old = BOTH.locator.locate(reach, material(user))
    assert old in [remote.ref for remote in BOTH.lister.list(reach)]
    made = BOTH.maker.make(reach, Ref())
    for _ in range(2):
        BOTH.setter.set(reach, made.ref, made.material)
    assert [remote.ref for remote in BOTH.lister.list(reach)] == [made.ref, old]
    for value in (material(user), made.material):
        assert BOTH.verifier.verify(reach, value).verdict is Verdict.ACCEPTED
    serving[0] = made.material
    while len(logins) < 40:
        threading.Event().wait(0.01)
    over.set()
    for thread in threads:
        thread.join()
    BOTH.revoker.revoke(reach, old, material(user))
    assert not refused
    assert BOTH.verifier.verify(reach, material(user)).code == "1045"
    assert [remote.ref for remote in BOTH.lister.list(reach)] == [made.ref]
    assert opens(server, made.material)


def test_the_newer_password_can_be_taken_away_again(server, access, user, rotator):
    """Rolled back, the old value is alone again and works."""
    reach = access(user, rotator, pattern="overlap")
    made = BOTH.maker.make(reach, Ref())
    BOTH.setter.set(reach, made.ref, made.material)
    BOTH.revoker.revoke(reach, made.ref, made.material)
    assert not opens(server, made.material)
    assert opens(server, material(user))


def test_a_window_somebody_else_opened_is_not_closed(server, access, user, rotator):
    """Two passwords that are not ours to end: a third is refused, and both go on working."""
    other = password()
    server.run(
        f"ALTER USER {user.account} IDENTIFIED VIA mysql_native_password USING '{native_hash(other)}'"
        f" OR mysql_native_password USING '{native_hash(user.password)}'"
    )
    reach = access(user, rotator, pattern="overlap")
    made = BOTH.maker.make(reach, Ref())
    with pytest.raises(CapReached, match="two passwords"):
        BOTH.setter.set(reach, made.ref, made.material)
    assert opens(server, material(user))
    assert opens(server, {"user": user.name, "password": other})


def test_a_window_keeps_grants_limits_and_requirements(server, access, user, rotator):
    """Opening and closing touches the password and nothing else."""
    server.run(
        f"GRANT PROCESS ON *.* TO {user.account}", f"ALTER USER {user.account} WITH MAX_USER_CONNECTIONS 7"
    )
    reach = access(user, rotator, pattern="overlap")
    made = BOTH.maker.make(reach, Ref())
    BOTH.setter.set(reach, made.ref, made.material)
    BOTH.revoker.revoke(reach, BOTH.locator.locate(reach, material(user)), material(user))
    with server.connect() as cursor:
        cursor.execute(f"SHOW GRANTS FOR {user.account}")
        (granted,) = cursor.fetchone()
    assert "PROCESS" in granted
    assert "MAX_USER_CONNECTIONS 7" in granted


def test_two_users_take_turns(server, pair):
    """Both values work until the old is revoked; then its sessions are gone and its slot is empty."""
    (seen,) = TWO.lister.list(pair.access)
    assert (seen.ref.slot, seen.ref.id, seen.active) == ("user_a", pair.users.active.name, True)
    made = TWO.maker.make(pair.access, FREE)
    TWO.setter.set(pair.access, made.ref, made.material)
    new, old = (TWO.verifier.verify(pair.access, m) for m in (made.material, pair.current))
    assert new.verdict is old.verdict is Verdict.ACCEPTED
    assert new.identity["principal"] == old.identity["principal"] == pair.users.role
    with live(server, pair.current) as session:
        for _ in range(2):
            TWO.revoker.revoke(pair.access, seen.ref, pair.current)
        with pytest.raises(pymysql.err.Error):
            session.ping()
    assert TWO.verifier.verify(pair.access, pair.current).code == "1045"
    assert [remote.ref for remote in TWO.lister.list(pair.access)] == [made.ref]


def test_a_user_without_the_role_is_refused_up_front(server, pair):
    """Without its default role the other user would lack the rights: neither list nor verify lets it pass."""
    server.run(f"SET DEFAULT ROLE NONE FOR '{pair.users.active.name}'@'%'")
    probe = TWO.verifier.verify(pair.access, pair.current)
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "default_role")
    with pytest.raises(InvalidInput, match="default role") as caught:
        TWO.lister.list(pair.access)
    assert "SET DEFAULT ROLE" in caught.value.hint


def test_a_user_that_defined_something_is_not_dropped(server, pair, rotator):
    """MariaDB would drop it and break the view for everybody; so it is looked for first."""
    name = pair.users.active.name
    server.run(
        f"CREATE OR REPLACE DEFINER='{name}'@'%' VIEW mysql_app.{name}_view AS SELECT 1",
        f"GRANT SELECT, SHOW VIEW ON mysql_app.* TO {rotator.account}",
    )
    with pytest.raises(Conflict, match=f"{name}_view"):
        TWO.dropper.drop(pair.access)
    server.run(f"DROP VIEW mysql_app.{name}_view")
    for _ in range(2):
        TWO.dropper.drop(pair.access)
    assert not opens(server, pair.current)


def test_odd_names_are_only_names(server, access, rotator):
    """Quotes, backslashes and percent signs in a user's name reach the server as they are, in every sql_mode."""
    for mode in ("", "NO_BACKSLASH_ESCAPES"):
        server.run(f"SET GLOBAL sql_mode = '{mode}'")
        try:
            user = server.create_user(f"o'd\\d%`{len(mode)}") if not mode else None
            if user is None:
                name = "od'd\\"
                user = User(name, password())
                server.run(
                    "CREATE USER 'od''d\\'@'%' IDENTIFIED BY PASSWORD " + f"'{native_hash(user.password)}'"
                )
            reach = access(user, rotator)
            made = ONE.maker.make(reach, Ref())
            ONE.setter.set(reach, made.ref, made.material)
            assert opens(server, made.material)
        finally:
            server.run("SET GLOBAL sql_mode = DEFAULT")


def test_sha2_hashes_are_those_of_crypt():
    """SHA-256-crypt's own published example, and MySQL's shape around it with a salt of 20 characters."""
    assert (
        hashes.sha256_crypt(b"Hello world!", b"saltstring", 5000)
        == "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    )
    value = Material({"password": "secret-Value-1", hashes.SALT: hashes.new_salt()})
    kept = hashes.stored(hashes.CACHING, value)
    assert len(kept) == 70
    assert kept == hashes.stored(hashes.CACHING, value)
    assert hashes.fits(hashes.CACHING, kept, "secret-Value-1")
    assert not hashes.fits(hashes.CACHING, kept, "secret-Value-2")
