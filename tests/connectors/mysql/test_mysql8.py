"""MySQL 8's words, against the lab's proxy: what is sent is what the manual documents, and it does what it should."""

import re

import pytest

from keyturn.connectors.mysql.connector import capabilities
from keyturn.errors import CapReached, Conflict, InvalidInput, PermissionMissing
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.verdict import Verdict
from keyturn.transport.sql import mysql as door
from keyturn_lab.parts.mariadb import User, native_hash
from keyturn_lab.parts.mysql8 import MySQL8Proxy

from .conftest import material

ONE = capabilities("password", {"admin_user": "rotator"})
DUAL = capabilities("password", {"pattern": "dual"})
TWO = capabilities("password", {"pattern": "two"})
BOTH = capabilities("password", {"pattern": "overlap"})


@pytest.fixture(scope="module")
def mysql8(server):
    with MySQL8Proxy(server) as started:
        yield started


@pytest.fixture
def dual(mysql8, access, user, rotator):
    return access(user, rotator, pattern="dual", port=mysql8.port)


def test_a_mysql_server_is_told_from_a_mariadb(mysql8, params, user):
    """The version decides which words are used."""
    with door.login(params(user.name, user.password)) as session:
        assert (session.is_mariadb, session.version[:2]) == (True, (10, 11)) or session.version >= (10, 4)
    with door.login(params(user.name, user.password, port=mysql8.port)) as session:
        assert (session.is_mariadb, session.version) == (False, (8, 4, 3))


@pytest.mark.parametrize(("pattern", "can", "wanted"), [("dual", DUAL, "overlap"), ("overlap", BOTH, "two")])
def test_a_pattern_of_the_other_product_is_refused(mysql8, access, user, rotator, pattern, can, wanted):
    """Each product's overlap is its own; the error names the pattern that fits."""
    port = {} if pattern == "dual" else {"port": mysql8.port}
    reach = access(user, rotator, pattern=pattern, **port)
    made = can.maker.make(reach, Ref())
    with pytest.raises(InvalidInput) as caught:
        can.setter.set(reach, made.ref, made.material)
    assert caught.value.facts["field"] == "pattern"
    assert wanted in caught.value.hint


def test_two_passwords_live_until_the_old_is_discarded(server, mysql8, dual, user):
    """RETAIN keeps the old one alive, the same again changes nothing, DISCARD ends it and only it."""
    made = DUAL.maker.make(dual, Ref())
    for _ in range(2):
        DUAL.setter.set(dual, made.ref, made.material)
        assert mysql8.entries(user.name) == [
            native_hash(made.material["password"]),
            native_hash(user.password),
        ]
    for value in (material(user), made.material):
        assert DUAL.verifier.verify(dual, value).verdict is Verdict.ACCEPTED
    for _ in range(2):
        DUAL.revoker.revoke(dual, Ref(), material(user))
    old = DUAL.verifier.verify(dual, material(user))
    assert (old.verdict, old.code) == (Verdict.REJECTED, "1045")
    assert DUAL.verifier.verify(dual, made.material).verdict is Verdict.ACCEPTED
    sent = [
        re.sub(r"BY '[^']*'", "BY '...'", each) for each in mysql8.statements if f"'{user.name}'@" in each
    ]
    who = f"ALTER USER '{user.name}'@'%'"
    assert [each for each in sent if each.startswith("ALTER")] == [
        f"{who} IDENTIFIED WITH mysql_native_password BY '...' RETAIN CURRENT PASSWORD",
        f"{who} DISCARD OLD PASSWORD",
    ]


def test_the_new_one_can_be_taken_back(mysql8, dual, user):
    """The value that serves becomes the first again, then what is left of the other one is discarded."""
    made = DUAL.maker.make(dual, Ref())
    DUAL.setter.set(dual, made.ref, made.material)
    DUAL.revoker.revoke(dual, made.ref, made.material)
    assert mysql8.entries(user.name) == [native_hash(user.password)]
    assert DUAL.verifier.verify(dual, made.material).code == "1045"


def test_half_a_taking_back_is_completed(server, mysql8, dual, user):
    """Cut off between its two statements, the same revoke again leaves the one password that serves."""
    made = DUAL.maker.make(dual, Ref())
    kept = native_hash(user.password)
    ways = f"mysql_native_password USING '{kept}' OR mysql_native_password USING '{kept}'"
    server.run(f"ALTER USER {user.account} IDENTIFIED VIA {ways}")
    DUAL.revoker.revoke(dual, made.ref, made.material)
    assert mysql8.entries(user.name) == [kept]


def test_an_open_window_of_somebody_else_stays(server, mysql8, dual, user):
    """A second RETAIN would end a password that somebody may be using."""
    other = native_hash(password())
    ways = (
        f"mysql_native_password USING '{native_hash(user.password)}' OR mysql_native_password USING '{other}'"
    )
    server.run(f"ALTER USER {user.account} IDENTIFIED VIA {ways}")
    made = DUAL.maker.make(dual, Ref())
    with pytest.raises(CapReached, match="second password"):
        DUAL.setter.set(dual, made.ref, made.material)
    with pytest.raises(Conflict, match="value is not known"):
        DUAL.revoker.revoke(dual, Ref(), None)
    assert mysql8.entries(user.name) == [native_hash(user.password), other]


def test_several_hosts_need_a_word(server, mysql8, dual, user, access, rotator):
    """Salted hashes do not show which row is ours, so it has to be said."""
    server.create_user(user.name, host="10.1.1.1")
    made = DUAL.maker.make(dual, Ref())
    with pytest.raises(InvalidInput, match="several hosts"):
        DUAL.setter.set(dual, made.ref, made.material)
    named = access(user, rotator, pattern="dual", port=mysql8.port, user_host="%")
    DUAL.setter.set(named, made.ref, made.material)
    assert DUAL.verifier.verify(named, made.material).verdict is Verdict.ACCEPTED


def test_a_password_in_a_statement_needs_a_proven_server(mysql8, user, rotator, dual):
    """TLS without a proven name is not enough for the one statement that holds a password."""
    from dataclasses import replace

    from keyturn.contract.values import NetworkPolicy

    closed = replace(dual, settings={**dual.settings, "sslmode": "require"}, network=NetworkPolicy())
    made = DUAL.maker.make(closed, Ref())
    before = len(mysql8.statements)
    with pytest.raises(InvalidInput) as caught:
        DUAL.setter.set(closed, made.ref, made.material)
    assert caught.value.facts["field"] == "sslmode"
    assert len(mysql8.statements) == before


def test_one_and_two_users_send_hashes(server, mysql8, access, user, rotator, pair):
    """The other patterns work on MySQL too, with a hash; a user by itself is told to take an administrator."""
    from dataclasses import replace

    reach = access(user, rotator, port=mysql8.port)
    made = ONE.maker.make(reach, Ref())
    ONE.setter.set(reach, made.ref, made.material)
    assert server.accepts(User(user.name, made.material["password"]))
    assert not server.accepts(user)
    two = replace(pair.access, settings={**pair.access.settings, "port": mysql8.port})
    other = TWO.maker.make(two, Ref(slot="user_b"))
    TWO.setter.set(two, other.ref, other.material)
    assert TWO.verifier.verify(two, other.material).verdict is Verdict.ACCEPTED
    for value in (made.material, other.material):
        assert value["password"] not in "\n".join(mysql8.statements)
    TWO.disabler.disable(two, other.ref)
    assert TWO.verifier.verify(two, other.material).code == "3118"
    ONE.revoker.revoke(reach, made.ref, made.material)
    assert ONE.lister.list(reach) == ()
    assert ONE.verifier.verify(reach, made.material).code == "1045"
    by_itself = access(pair.users.active, port=mysql8.port)
    mine = ONE.maker.make(by_itself, Ref())
    with pytest.raises(PermissionMissing, match="takes no hash"):
        ONE.setter.set(by_itself, mine.ref, mine.material)
