"""The MariaDB part: it refuses what is wrong, logs no password, and ends with whoever started it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pymysql
import pytest
from tests.compliance.lab import or_skip

from keyturn_lab.parts import PartMissing, mariadb


@pytest.fixture(scope="module")
def server():
    or_skip(mariadb.find_binaries)
    with mariadb.MariaDBServer() as running:
        yield running


def test_only_the_right_password_opens_a_user(server):
    """A wrong password is refused, so that a right one proves something; root has one too."""
    user = server.create_user("door")
    assert server.accepts(user)
    assert not server.accepts(mariadb.User("door", "wrong"))
    assert not server.accepts(mariadb.User("root", ""))


def test_password_never_reaches_the_log(server):
    """Users are made with hashes, so a log of all statements holds no password."""
    user = server.create_user("quiet")
    assert mariadb.native_hash(user.password) in server.read_log()
    for password in (user.password, server.root.password):
        assert password not in server.read_log()


def test_pair_acts_with_its_role(server):
    """The active user of a pair acts with the role, and the idle one cannot log in."""
    pair = server.two_user_setup("shop")
    with pymysql.connect(**server.login(pair.active)) as session, session.cursor() as cursor:
        cursor.execute("SELECT current_role()")
        assert cursor.fetchone() == ("shop_role",)
    assert pair.idle not in [live["owner"] for live in server.alive()]


def test_the_oracle_shows_every_password(server):
    """A user with two passwords is alive twice; a locked one is not."""
    user = server.create_user("twice")
    other = mariadb.native_hash("another")
    first = mariadb.native_hash(user.password)
    ways = f"mysql_native_password USING '{other}' OR mysql_native_password USING '{first}'"
    server.run(f"ALTER USER {user.account} IDENTIFIED VIA {ways}")
    seen = [live["facts"]["verifier"] for live in server.alive() if live["owner"] == "twice"]
    assert sorted(seen) == sorted([first, other])
    server.run(f"ALTER USER {user.account} ACCOUNT LOCK")
    assert "twice" not in [live["owner"] for live in server.alive()]


def test_server_ends_with_a_killed_parent(server):
    """A parent ended by kill -9 leaves neither a server nor its directory."""
    code = (
        "import time; from keyturn_lab.parts.mariadb import MariaDBServer as M\n"
        "m = M().start(); print(m.port, m.socket.parent, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        port, directory = parent.stdout.readline().split()
        assert Path(directory).exists()
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while Path(directory).exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(directory).exists()
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(host="127.0.0.1", port=int(port), user="root")


def test_missing_server_names_the_package(monkeypatch):
    """Without server binaries the error names the Debian package to install."""
    monkeypatch.setattr(mariadb.shutil, "which", lambda _name, **_: None)
    with pytest.raises(PartMissing, match="Debian package `mariadb-server`"):
        mariadb.find_binaries()
