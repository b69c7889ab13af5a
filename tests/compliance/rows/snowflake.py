"""Snowflake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn_lab.guard import DEMO_PASSWORD
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab


def snowflake(lab: Lab) -> Case:
    there = lab.vendor("snowflake")
    user, host = f"SVC_{lab.number()}", urlsplit(there.url)
    pair = lab.pair(0)
    there.post("users", {"name": user, "RSA_PUBLIC_KEY": pair.public_key, "roles": ["GAINSIGHT_ROLE"]})
    values = {
        "account": "TESTACCT",
        "host": host.hostname or "",
        "port": str(host.port),
        "protocol": "http",
        "user": user,
        "private_key": pair.private_pem.reveal(),
        "admin_user": "KEYTURN_ADMIN",
        "admin_password": DEMO_PASSWORD,
    }
    ops = {"set": "alter_user_set", "revoke": "alter_user_unset"}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(ops[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        there.arm("select", "wrong_identity")
        yield access, Material({"private_key": pair.private_pem.reveal()})
        there.disarm()

    other = lab.pair(1).private_pem.reveal()
    return Case(
        "snowflake",
        "key_pair",
        values,
        alive=lambda: {
            each["facts"]["fingerprint"]
            for each in there.alive()
            if each["owner"] == user and each["kind"] == "public_key"
        },
        of=_snowflake_fingerprint,
        wrong_values={**values, "private_key": other},
        wrong=lambda good: [good.replacing(private_key=other)],
        codes=frozenset({"390144"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        throttled=lambda: undone(lambda: there.arm("login", "throttle", times=None), there.disarm),
        throttle_says_wait=False,  # 429 without a time
        elsewhere=elsewhere,
        lost=lost,
        slot=Ref(id="RSA_PUBLIC_KEY_2", slot="RSA_PUBLIC_KEY_2"),
        deadline_s=2.0,
    )


def _snowflake_fingerprint(material: Material) -> str:
    from keyturn.connectors.snowflake import client

    return str(client.pair_of(material).fingerprint)


ROWS = {
    "snowflake/key_pair": snowflake,
}
