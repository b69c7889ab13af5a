"""Redshift users on the lab's cluster: judged by Amazon's own driver, and by what the cluster keeps of statements."""

import hashlib
import itertools
import re
from dataclasses import replace

import psycopg
import pytest
import redshift_connector
from tests.compliance.lab import or_skip
from tests.waiting import wait_for

from keyturn.connectors.redshift import client
from keyturn.connectors.redshift.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.errors import Conflict, InvalidInput, PermissionMissing
from keyturn.model.credential import Ref
from keyturn.model.secret import Material, Secret
from keyturn.model.verdict import Verdict
from keyturn.transport import sql
from keyturn_lab.parts.redshift import RedshiftServer, User

pytestmark = pytest.mark.postgres
ONE = capabilities("password", {"admin_user": "rotator"})
TWO = capabilities("password", {"users": "two"})
FREE = Ref(slot="user_b")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server():
    started = or_skip(lambda: RedshiftServer().start())
    yield started
    sql.close_idle()
    started.stop()


@pytest.fixture(scope="module")
def rotator(server):
    return server.create_user("rotator", superuser=True)


@pytest.fixture
def prefix():
    return f"t{next(_numbers)}"


@pytest.fixture
def user(server, prefix):
    return server.create_user(prefix)


def material(user):
    return Material({"user": user.name, "password": user.password}, frozenset({"user"}))


@pytest.fixture
def access(server):
    def make(acting=None, admin=None, **settings):
        known = {"host": server.host, "port": server.port, "database": "postgres", "sslmode": "disable"}
        named = {"admin_user": admin.name, "admin_password": admin.password} if admin else None
        return Access(
            settings={**known, **settings},
            acting=material(acting) if acting else None,
            admin=Material(named, frozenset({"admin_user"})) if named else None,
            network=NetworkPolicy(frozenset({server.host})),
        )

    return make


@pytest.fixture
def pair(server, prefix, rotator, access):
    made = server.two_user_setup(prefix)
    settings = {"users": "two", "user_a": made.active.name, "user_b": made.idle, "group": made.group}
    return made, access(made.active, rotator, **settings)


def opens(server, value):
    return server.accepts(User(value["user"], value["password"]))


@pytest.mark.parametrize("path", ["self", "admin"])
def test_one_user_is_set_and_the_old_value_dies(server, access, user, rotator, path):
    """After `set` Amazon's driver gets in with the new value and not with the old; the cluster saw only a digest."""
    reach = access(user, rotator if path == "admin" else None)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    assert ONE.verifier.verify(reach, made.material).verdict is Verdict.ACCEPTED
    assert opens(server, made.material)
    assert not opens(server, material(user))
    old = ONE.verifier.verify(reach, material(user))
    bogus = ONE.verifier.verify(reach, ONE.verifier.bogus(made.material))
    assert (old.verdict, old.code) == (bogus.verdict, bogus.code) == (Verdict.REJECTED, "28000")
    seen = "\n".join(server.statements) + server.cluster.read_log()
    assert made.material["password"] not in seen
    digest = hashlib.md5((made.material["password"] + user.name).encode()).hexdigest()
    assert f"ALTER USER \"{user.name}\" PASSWORD 'md5{digest}'" in seen


def sessions(reach):
    """How many sessions each user has now."""
    return {each.name: each.facts["sessions"] for each in ONE.discoverer.discover(reach)}


def test_sessions_outlive_a_change_and_end_only_when_asked(server, access, user, rotator):
    """A session opened with the old password lives on and is counted; it ends where the connection says so."""
    before = material(user)
    with redshift_connector.connect(
        host=server.host, port=server.port, database="postgres", ssl=False, **before
    ) as old:
        reach = access(user, rotator)
        made = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, made.ref, made.material)
        old.cursor().execute("SELECT 1")
        wait_for(lambda: sessions(reach).get(user.name) == 1)  # ours ends a moment after its close
        reach = access(user, rotator, end_sessions=True)
        again = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, again.ref, again.material)
        with pytest.raises((redshift_connector.Error, OSError)):
            old.cursor().execute("SELECT 1")
    with pytest.raises(PermissionMissing):
        ONE.setter.set(replace(reach, admin=None, acting=again.material), made.ref, made.material)
    assert ONE.verifier.verify(reach, again.material).verdict is Verdict.ACCEPTED, "nothing was changed"


def test_the_digest_goes_by_the_name_as_it_is_kept(access, user):
    """Names are folded to lower case before they salt; a name in another spelling is refused up front."""
    assert (
        client.digest("App", "Secret-1")
        == client.digest("app", "Secret-1")
        != client.digest("app2", "Secret-1")
    )
    shouted = Material({"user": user.name.upper(), "password": user.password}, frozenset({"user"}))
    with pytest.raises(InvalidInput, match="lower case"):
        ONE.locator.locate(access(user), shouted)


def test_every_generated_password_meets_redshifts_rules(access, user):
    """8 to 64 characters, upper and lower case, a digit, and none of the characters it refuses."""
    rules = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9_.~!#%^*+=-]{8,64}")
    for _ in range(200):
        assert rules.fullmatch(ONE.maker.make(access(user), Ref()).material["password"])


def test_a_sha256_user_is_unknown_and_never_rejected(server, access, user, rotator):
    """Amazon's driver logs in by request 13; ours cannot, says so, and does not call the password wrong."""
    secret, salt = "Secret-1234", "a1b2c3"
    digest = hashlib.sha256((secret + salt).encode()).hexdigest()
    with sql.login(
        sql.Login(
            server.host,
            server.port,
            "postgres",
            rotator.name,
            Secret(rotator.password),
            "disable",
            network=NetworkPolicy(frozenset({server.host})),
        )
    ) as session:
        session.change(
            session.compose("ALTER USER {0} PASSWORD {text}", user.name, text=f"sha256|{digest}|{salt}")
        )
    assert server.accepts(User(user.name, secret))
    assert not server.accepts(User(user.name, "Secret-12345"))
    probe = ONE.verifier.verify(access(user, rotator), material(User(user.name, secret)))
    assert probe.verdict is Verdict.UNKNOWN
    assert "sha256" in probe.detail
    made = ONE.maker.make(access(user, rotator), Ref())
    ONE.setter.set(access(user, rotator), made.ref, made.material)
    assert ONE.verifier.verify(access(user, rotator), made.material).verdict is Verdict.ACCEPTED


def test_two_users_take_turns(server, pair):
    """Both work until the old is revoked; then its sessions are gone and its slot is free."""
    made_pair, reach = pair
    current = material(made_pair.active)
    (seen,) = TWO.lister.list(reach)
    assert (seen.ref.slot, seen.active) == ("user_a", True)
    made = TWO.maker.make(reach, FREE)
    TWO.setter.set(reach, made.ref, made.material)
    new, old = (TWO.verifier.verify(reach, each) for each in (made.material, current))
    assert new.verdict is old.verdict is Verdict.ACCEPTED
    assert new.identity["principal"] == old.identity["principal"] == made_pair.group
    live = redshift_connector.connect(**server.login(made_pair.active))
    for _ in range(2):
        TWO.revoker.revoke(reach, seen.ref, current)
    with pytest.raises(Exception, match=r"closed|Broken"):
        live.cursor().execute("SELECT 1")
    live._usock.close()
    assert TWO.verifier.verify(reach, current).code == "28000"
    assert [remote.ref for remote in TWO.lister.list(reach)] == [made.ref]


def test_the_off_switch_keeps_the_value(server, pair):
    """Switched off the password is refused and kept; switched on it works again."""
    made_pair, reach = pair
    ref = Ref(id=made_pair.active.name, slot="user_a")
    for _ in range(2):
        TWO.disabler.disable(reach, ref)
    assert not server.accepts(made_pair.active)
    assert [remote.active for remote in TWO.lister.list(reach)] == [False]
    TWO.disabler.enable(reach, ref)
    assert server.accepts(made_pair.active)


def test_a_user_outside_the_group_is_refused_up_front(server, pair):
    """It would lack the other one's privileges: neither list nor verify lets it pass."""
    made_pair, reach = pair
    server.run(f"ALTER GROUP {made_pair.group} DROP USER {made_pair.active.name}")
    probe = TWO.verifier.verify(reach, material(made_pair.active))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "group")
    with pytest.raises(InvalidInput, match="not in group") as caught:
        TWO.lister.list(reach)
    assert "ADD USER" in caught.value.hint


def test_an_administrator_that_is_no_superuser_is_told(server, access, user, prefix):
    """It would see no sessions but its own; what is missing is named and the password is left alone."""
    weak = server.create_user(f"{prefix}_weak")
    made = ONE.maker.make(access(user), Ref())
    with pytest.raises(PermissionMissing) as caught:
        ONE.setter.set(access(user, weak), made.ref, made.material)
    assert caught.value.facts["right"] == client.SET_RIGHT
    server.run(f"ALTER USER {weak.name} CREATEROLE")  # may set passwords, may not end sessions
    with pytest.raises(PermissionMissing) as caught:
        ONE.revoker.revoke(access(user, weak), Ref(), material(user))
    assert caught.value.facts["right"] == client.END_RIGHT
    assert server.accepts(user)


def test_a_user_that_owns_something_is_not_dropped(server, pair):
    """55006 is a conflict that a person has to solve, not an outage to wait for."""
    made_pair, reach = pair
    name = made_pair.active.name
    server.run(
        f"CREATE SCHEMA {name}_s",
        f"CREATE TABLE {name}_s.t (n int)",
        f"ALTER TABLE {name}_s.t OWNER TO {name}",
    )
    with pytest.raises(Conflict, match="owns"):
        TWO.dropper.drop(reach)
    server.run(f"DROP TABLE {name}_s.t")
    for _ in range(2):
        TWO.dropper.drop(reach)
    assert not server.accepts(made_pair.active)


def test_the_proxy_keeps_redshifts_rules(server, user, rotator):
    """A weak password is refused, a driver's own options are not in the way, a plain PostgreSQL client works too."""
    place = {"host": server.host, "port": server.port, "dbname": "postgres", "sslmode": "disable"}
    with psycopg.connect(**place, user=rotator.name, password=rotator.password, autocommit=True) as session:
        for weak in ("short", "alllowercase1", "With space 1", "Slash/Slash1"):
            with pytest.raises(psycopg.Error, match="rules"):
                session.execute(f"ALTER USER {user.name} PASSWORD '{weak}'")
        assert session.info.server_version == 80002
        session.execute(f"ALTER USER {user.name} PASSWORD DISABLE")
    assert not server.accepts(user)
