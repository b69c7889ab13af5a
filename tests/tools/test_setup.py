"""What `tools/setup.sh` asks the system for, on machines made of stubs: nothing is installed here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "setup.sh"
WORDS = ("sh", "cat", "dirname", "sha256sum", "env", "true")


@pytest.fixture
def machine(tmp_path):
    """`machine(user=0, sudo=False, has=[...])` runs the script up to its search for Python; answers what was said."""
    binaries, project, sbin = tmp_path / "bin", tmp_path / "project", tmp_path / "sbin"
    judge = project / "tests" / "issued" / "node"
    for folder in (
        binaries,
        project / "tools",
        project / "requirements",
        project / "lab" / "oidc",
        judge,
        sbin,
    ):
        folder.mkdir(parents=True)
    for name in (
        "requirements/dev.lock",
        "requirements/uv.lock",
        "lab/oidc/package-lock.json",
        "tests/issued/node/package-lock.json",
        "pyproject.toml",
        "lab/pyproject.toml",
    ):
        (project / name).touch()
    text = SCRIPT.read_text().replace("/usr/sbin/", f"{sbin}/").replace("/usr/lib/postgresql", str(tmp_path))
    (project / "tools" / "setup.sh").write_text(text)
    for word in WORDS:
        (binaries / word).symlink_to(shutil.which(word))
    log = tmp_path / "apt.log"

    def stub(name, body):
        (binaries / name).write_text(f"#!{shutil.which('sh')}\n{body}\n")
        (binaries / name).chmod(0o755)

    def run(user=0, sudo=False, has=(), **environment):
        stub("id", f"echo {user}")
        stub("apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {log}')
        if sudo:
            stub("sudo", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')
        for name in has:
            stub(name, "exit 0")
        done = subprocess.run(
            [binaries / "sh", project / "tools" / "setup.sh"],
            env={"PATH": str(binaries), "HOME": os.devnull, **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        assert "Python 3.11 or newer is required" in done.stderr
        return log.read_text() if log.exists() else "", done.stderr

    run.sbin = sbin
    return run


@pytest.mark.parametrize("who", [{"user": 0}, {"user": 1000, "sudo": True}])
def test_what_is_missing_is_installed_in_one_go(machine, who):
    """As root, or by a sudo that asks nothing, both database servers, Node.js and a browser come in one call without questions."""
    asked, said = machine(**who)
    assert (
        "noninteractive install -y -q --no-install-recommends postgresql mariadb-server nodejs npm chromium"
        in asked
    )
    assert "installing system packages: postgresql mariadb-server nodejs npm chromium" in said


def test_mariadb_is_found_on_the_path_or_beside_it(machine):
    """A server that is there is not asked for: on PATH, or where Debian puts it and unprivileged users do not look."""
    (machine.sbin / "mariadbd").write_text("#!/bin/sh\n")
    (machine.sbin / "mariadbd").chmod(0o755)
    asked, _ = machine(has=["postgres", "node", "npm", "mariadb-install-db", "chromium"])
    assert asked == ""


def test_half_a_mariadb_is_none(machine):
    """The server without the program that makes its tables cannot be started."""
    asked, _ = machine(has=["postgres", "node", "npm", "mariadbd", "chromium"])
    assert "--no-install-recommends mariadb-server\n" in asked


def test_nothing_is_installed_against_the_will(machine):
    """KEYTURN_NO_APT keeps the script from it, and so does a user without rights."""
    assert machine(KEYTURN_NO_APT="1")[0] == ""
    assert machine(user=1000)[0] == ""
