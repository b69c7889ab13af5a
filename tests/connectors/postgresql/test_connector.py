"""One role and two roles on a real server: what is written, what is proven, what dies."""

from dataclasses import replace

import psycopg
import pytest
from tests.waiting import wait_for

from keyturn.connectors.postgresql import scram_memo
from keyturn.connectors.postgresql.connector import capabilities
from keyturn.contract.values import Access
from keyturn.errors import Conflict, InvalidInput, PermissionMissing
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.parts.postgres import Role, scram_verifier

pytestmark = pytest.mark.postgres
ONE = capabilities("password", {"roles": "one", "admin_user": "rotator"})
TWO = capabilities("password", {"roles": "two"})
FREE = Ref(slot="role_b")


@pytest.fixture
def role(cluster, prefix):
    return cluster.create_role(prefix)


def material(role):
    return Material({"user": role.name, "password": role.password}, frozenset({"user"}))


def superuser(cluster):
    return Role(cluster.superuser, cluster.password)


def opens(cluster, value):
    """Whether an ordinary client gets in with this material's password."""
    return cluster.accepts(Role(value["user"], value["password"]))


def sessions(reach):
    """How many sessions each role has now."""
    return {each.name: each.facts["sessions"] for each in ONE.discoverer.discover(reach)}


def run(cluster, *statements):
    with cluster.connect() as session:
        for statement in statements:
            session.execute(statement)


@pytest.mark.parametrize("path", ["self", "admin"])
def test_one_role_is_set_and_the_old_value_dies(cluster, access, role, rotator, path):
    """After `set`, the new value works for us and for an ordinary client, and the old one is refused with 28P01."""
    reach = access(role, rotator if path == "admin" else None)
    before = ONE.verifier.verify(reach, material(role))
    made = ONE.maker.make(reach, Ref())
    assert len(made.material["password"]) == 32
    ONE.setter.set(reach, made.ref, made.material)
    after = ONE.verifier.verify(reach, made.material)
    assert after.verdict is Verdict.ACCEPTED
    assert after.identity == {**before.identity}
    assert after.identity["tenant"] == f"postgres@127.0.0.1:{cluster.port}"
    assert opens(cluster, made.material)
    old = ONE.verifier.verify(reach, material(role))
    assert (old.verdict, old.code) == (Verdict.REJECTED, "28P01")
    bogus = ONE.verifier.verify(reach, ONE.verifier.bogus(made.material))
    assert (bogus.verdict, bogus.code) == (Verdict.REJECTED, "28P01")


@pytest.mark.parametrize("path", ["admin", "itself"])
def test_sessions_outlive_a_change_and_end_only_when_asked(cluster, access, role, rotator, path):
    """A session opened with the old password lives on and is counted; it ends where the connection says so."""
    admin = rotator if path == "admin" else None
    with psycopg.connect(cluster.dsn(role=role), autocommit=True) as old:
        reach = access(role, admin)
        made = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, made.ref, made.material)
        old.execute("SELECT 1")
        wait_for(
            lambda: sessions(access(role, rotator)).get(role.name) == 1
        )  # ours ends a moment after its close
        reach = replace(access(role, admin, end_sessions=True), acting=made.material)
        again = ONE.maker.make(reach, Ref())
        ONE.setter.set(reach, again.ref, again.material)
        with pytest.raises(psycopg.Error):
            old.execute("SELECT 1")
    assert ONE.verifier.verify(reach, again.material).verdict is Verdict.ACCEPTED


def test_sessions_that_may_not_be_ended_are_said_before_anything_changes(cluster, access, role):
    """The right is looked for first: a refusal afterwards would hide that the password is new already."""
    bare = cluster.create_role(f"{role.name}_admin")
    with cluster.connect() as session:
        session.execute(f"ALTER ROLE {bare.name} CREATEROLE")
    reach = access(role, bare, end_sessions=True)
    made = ONE.maker.make(reach, Ref())
    with pytest.raises(PermissionMissing, match="sessions"):
        ONE.setter.set(reach, made.ref, made.material)
    assert ONE.verifier.verify(reach, material(role)).verdict is Verdict.ACCEPTED


def test_the_password_is_never_in_the_servers_log(cluster, access, role, rotator, pair):
    """With every statement logged, the log holds verifiers and no password, also when a statement fails."""
    made = [ONE.maker.make(access(role), Ref()), TWO.maker.make(pair.access, FREE)]
    ONE.setter.set(access(role), made[0].ref, made[0].material)
    TWO.setter.set(pair.access, FREE, made[1].material)
    run(cluster, f"ALTER ROLE {role.name} SUPERUSER")
    refused = made[0].material.replacing(password=password())
    with pytest.raises(PermissionMissing):
        ONE.setter.set(access(role, rotator), made[0].ref, refused)
    log = cluster.read_log()
    assert f'ALTER ROLE "{role.name}" PASSWORD' in log
    assert "must be superuser" in log
    for value in (*made, refused):
        secret = value["password"] if isinstance(value, Material) else value.material["password"]
        assert secret not in log


def test_setting_twice_changes_nothing(cluster, access, role, rotator):
    """The salt is part of the material, so repeating a set writes the same verifier, and the ref names it."""
    reach = access(role, superuser(cluster))
    made = ONE.maker.make(reach, Ref())
    stored = []
    for _ in range(2):
        ONE.setter.set(reach, made.ref, made.material)
        scram_memo._memo.clear()
        with cluster.connect() as session:
            stored += session.execute(
                "SELECT rolpassword FROM pg_authid WHERE rolname=%s", [role.name]
            ).fetchone()
    assert stored[0] == stored[1]
    (seen,) = ONE.lister.list(reach)
    assert seen.ref.same_place(made.ref)
    other = ONE.maker.make(reach, Ref())
    assert not seen.ref.same_place(other.ref)


def test_the_memo_speeds_a_proof_and_never_decides_a_refusal(cluster, access, role):
    """A login uses the keys the value was written with; when they fail, the password itself is tried, and again."""
    reach = access(role)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    assert scram_memo.login_keys(made.material) is not None
    other = made.material.replacing(password="x" * 32)
    assert scram_memo.login_keys(other) not in {None, scram_memo.login_keys(made.material)}
    assert scram_memo.login_keys(Material({"password": "pasted"})) is None
    run(cluster, f"ALTER ROLE {role.name} PASSWORD '{scram_verifier(made.material['password'])}'")
    assert ONE.verifier.verify(reach, made.material).verdict is Verdict.ACCEPTED
    assert scram_memo.login_keys(made.material) is None


def test_the_memo_is_bounded(monkeypatch):
    """No more than its size is remembered, and nothing for longer than its time."""
    monkeypatch.setattr(scram_memo, "_SIZE", 2)
    values = [Material({"password": f"p{n}", scram_memo.SALT: scram_memo.new_salt()}) for n in range(3)]
    for value in values:
        scram_memo.keys_of(value)
    assert len(scram_memo._memo) == 2
    monkeypatch.setattr(scram_memo, "_KEEP_S", -1.0)
    scram_memo.doubt(values[0])
    assert scram_memo.login_keys(values[0]) is not None


@pytest.mark.parametrize(
    ("alter", "verdict", "code", "words"),
    [
        ("VALID UNTIL '2001-01-01'", Verdict.REJECTED, "28P01", "VALID UNTIL has passed"),
        ("NOLOGIN", Verdict.REJECTED, "28000", "not permitted to log in"),
        ("CONNECTION LIMIT 0", Verdict.UNKNOWN, "53300", "CONNECTION LIMIT 0"),
        ("PASSWORD NULL", Verdict.REJECTED, "28P01", "has no password"),
        ("PASSWORD 'another'", Verdict.REJECTED, "28P01", "another password"),
    ],
)
def test_each_cause_has_its_own_diagnosis(cluster, access, role, alter, verdict, code, words):
    """With an administrator the probe says which of PostgreSQL's like-sounding refusals it is."""
    run(cluster, f"ALTER ROLE {role.name} {alter}")
    probe = ONE.verifier.verify(access(role, superuser(cluster)), material(role))
    assert (probe.verdict, probe.code) == (verdict, code)
    assert words in probe.detail


def test_a_sample_query_that_is_refused_is_no_acceptance(cluster, access, role, prefix):
    """A credential that logs in but may not read what its consumers read is not proven."""
    run(cluster, f"CREATE TABLE {prefix}_orders ()")
    reach = access(role, sample_query=f"SELECT 1 FROM {prefix}_orders;")
    probe = ONE.verifier.verify(reach, material(role))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "42501")
    run(cluster, f"GRANT SELECT ON {prefix}_orders TO {role.name}")
    assert ONE.verifier.verify(reach, material(role)).rights == {"CONNECT", "sample_query"}


def test_without_an_administrator_the_missing_right_is_named(access, role, pair):
    """What a role cannot do to itself is refused with the right and the grant, before anything is sent."""
    with pytest.raises(PermissionMissing, match="revoke") as caught:
        ONE.revoker.revoke(access(role), Ref(), material(role))
    assert "CREATEROLE" in caught.value.facts["right"]
    alone = Access(settings=pair.settings | dict(pair.access.settings), acting=pair.current)
    with pytest.raises(PermissionMissing):
        TWO.setter.set(alone, FREE, TWO.maker.make(alone, FREE).material)


def test_a_right_the_administrator_lacks_is_named(cluster, access, role, prefix):
    """42501 becomes the vendor's own name of the right, and nothing has changed."""
    weak = cluster.create_role(f"{prefix}_weak")
    made = ONE.maker.make(access(role), Ref())
    with pytest.raises(PermissionMissing) as caught:
        ONE.setter.set(access(role, weak), made.ref, made.material)
    assert "CREATEROLE" in caught.value.facts["right"]
    assert opens(cluster, material(role))


def test_revoking_one_role_closes_it_unless_it_holds_a_successor(cluster, access, role, rotator):
    """The old value of a rotated role counts as gone; the value in the slot is revoked with its sessions."""
    reach = access(role, rotator)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    ONE.revoker.revoke(reach, Ref(), material(role))
    assert opens(cluster, made.material)
    with psycopg.connect(
        cluster.dsn(role=Role(role.name, made.material["password"])), autocommit=True
    ) as live:
        ONE.revoker.revoke(reach, made.ref, made.material)
        with pytest.raises(psycopg.OperationalError):
            live.execute("SELECT 1")
    ONE.revoker.revoke(reach, made.ref, made.material)
    assert ONE.verifier.verify(reach, made.material).code == "28P01"


def test_two_roles_take_turns(cluster, pair):
    """Both values work until the old is revoked; then its sessions are gone and its slot is empty."""
    (seen,) = TWO.lister.list(pair.access)
    assert (seen.ref.slot, seen.ref.id, seen.active) == ("role_a", pair.roles.active.name, True)
    made = TWO.maker.make(pair.access, FREE)
    assert made.ref.slot == "role_b"
    TWO.setter.set(pair.access, made.ref, made.material)
    new, old = (TWO.verifier.verify(pair.access, m) for m in (made.material, pair.current))
    assert new.verdict is old.verdict is Verdict.ACCEPTED
    assert new.identity["principal"] == old.identity["principal"] == pair.roles.owner
    assert new.identity["login_label"] == pair.roles.idle
    assert {r.ref.slot for r in TWO.lister.list(pair.access)} == {"role_a", "role_b"}
    with psycopg.connect(cluster.dsn(role=pair.roles.active), autocommit=True) as live:
        for _ in range(2):
            TWO.revoker.revoke(pair.access, seen.ref, pair.current)
        with pytest.raises(psycopg.OperationalError):
            live.execute("SELECT 1")
    dead = TWO.verifier.verify(pair.access, pair.current)
    assert (dead.verdict, dead.code) == (Verdict.REJECTED, "28P01")
    (left,) = TWO.lister.list(pair.access)
    assert left.ref.same_place(Ref(id=pair.roles.idle, slot="role_b"))
    assert opens(cluster, made.material)


def test_the_off_switch_is_reversible(cluster, pair):
    """Disabled, the role refuses and loses its sessions but keeps its place and value; enabled, it works again."""
    ref = Ref(id=pair.roles.active.name, slot="role_a")
    with psycopg.connect(cluster.dsn(role=pair.roles.active), autocommit=True) as live:
        for _ in range(2):
            TWO.disabler.disable(pair.access, ref)
        with pytest.raises(psycopg.OperationalError):
            live.execute("SELECT 1")
    off = TWO.verifier.verify(pair.access, pair.current)
    assert (off.verdict, off.code) == (Verdict.REJECTED, "28000")
    (seen,) = TWO.lister.list(pair.access)
    assert (seen.ref.slot, seen.active) == ("role_a", False)
    for _ in range(2):
        TWO.disabler.enable(pair.access, ref)
    assert TWO.verifier.verify(pair.access, pair.current).verdict is Verdict.ACCEPTED


def test_the_ownership_trap_is_refused_up_front(cluster, pair):
    """A role without the `role` setting would own what it creates: neither list nor verify lets it pass."""
    name = pair.roles.active.name
    run(cluster, f"ALTER ROLE {name} RESET role")
    probe = TWO.verifier.verify(pair.access, pair.current)
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "role_setting")
    with pytest.raises(InvalidInput, match="does not act as") as caught:
        TWO.lister.list(pair.access)
    assert f"ALTER ROLE {name} SET role" in caught.value.hint


def test_a_role_outside_the_group_is_refused(cluster, pair):
    """Both roles must be members of the group role."""
    run(cluster, f"REVOKE {pair.roles.owner} FROM {pair.roles.idle}")
    with pytest.raises(InvalidInput, match="not a member"):
        TWO.lister.list(pair.access)


def test_dropping_is_all_or_nothing(cluster, pair, prefix):
    """What the roles own here goes to the group role; an object in another database stops it with a clear error."""
    elsewhere = cluster.create_database(f"{prefix}_other")
    name = pair.roles.active.name
    with psycopg.connect(elsewhere, autocommit=True) as other:
        other.execute(f"CREATE TABLE held (); ALTER TABLE held OWNER TO {name}")
    strong = Access(
        settings=pair.access.settings,
        admin=Material({"user": cluster.superuser, "password": cluster.password}),
        network=pair.access.network,
    )
    with pytest.raises(Conflict, match="objects depend on it") as caught:
        TWO.dropper.drop(strong)
    assert f"{prefix}_other" in caught.value.hint
    with psycopg.connect(elsewhere, autocommit=True) as other:
        other.execute("DROP TABLE held")
    for _ in range(2):
        TWO.dropper.drop(strong)
    with cluster.connect() as session:
        query = "SELECT count(*) FROM pg_roles WHERE rolname IN (%s, %s)"
        assert session.execute(query, [name, pair.roles.idle]).fetchone() == (0,)


def test_discovery_tells_roles_and_memberships(access, role, pair):
    """Any login sees the roles; PostgreSQL's own are left out."""
    found = {f.name: f.facts for f in ONE.discoverer.discover(access(role))}
    assert found[pair.roles.idle]["member_of"] == (pair.roles.owner,)
    assert found[pair.roles.idle]["login"] is False
    assert not any(name.startswith("pg_") for name in found)


def test_odd_names_are_only_names(cluster, access, rotator, prefix):
    """A role called like an injection is set and proven like any other."""
    odd = f'{prefix} "o\'dd"; --'
    with cluster.connect() as session:
        session.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN").format(psycopg.sql.Identifier(odd)))
    reach = access(Role(odd, "x"), rotator)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    assert ONE.verifier.verify(reach, made.material).identity["principal"] == odd
