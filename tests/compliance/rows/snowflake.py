"""Snowflake: key pair, password by an administrator and by the user itself, OAuth pasted and by consent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.snowflake import people
from tests.compliance.case import Case, granted, granted_elsewhere, undone, url_of
from tests.compliance.lab import Lab, StandIn

ROLE = "GAINSIGHT_ROLE"
CALLBACK = "http://127.0.0.1:8425/oauth/callback"
ADMIN = {"admin_user": "KEYTURN_ADMIN", "admin_password": DEMO_PASSWORD}

READS = Reads(
    "SALES.PUBLIC.ORDERS", 3, ("SALES.PUBLIC.NOWHERE", "SALARIES", "a..b"), "PUBLIC.EMPTY", {"ORDERS": 3}
)


def _place(there: StandIn) -> dict[str, str]:
    host = urlsplit(there.url)
    return {
        "account": "TESTACCT",
        "host": host.hostname or "",
        "port": str(host.port),
        "protocol": "http",
    }


def _throttled(there: StandIn, op: str) -> AbstractContextManager[object]:
    return undone(lambda: there.arm(op, "throttle", times=None), there.disarm)


@contextmanager
def _lost(there: StandIn, ops: dict[str, str], access: Access, call: str) -> Iterator[Access]:
    there.arm(ops[call], "answer_lost")
    yield access


def key_pair(lab: Lab) -> Case:
    there = lab.vendor("snowflake")
    user = f"SVC_{lab.number()}"
    pair = lab.pair(0)
    there.post("users", {"name": user, "RSA_PUBLIC_KEY": pair.public_key, "roles": [ROLE]})
    values = {
        **_place(there),
        "user": user,
        "private_key": pair.private_pem.reveal(),
        **ADMIN,
    }

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
        reads=READS,
        secured=lambda _authority: {"protocol": "https"},
        throttled=lambda: _throttled(there, "login"),
        throttle_says_wait=False,  # 429 without a time
        elsewhere=elsewhere,
        lost=partial(_lost, there, {"set": "alter_user_set", "revoke": "alter_user_unset"}),
        slot=Ref(id="RSA_PUBLIC_KEY_2", slot="RSA_PUBLIC_KEY_2"),
        deadline_s=2.0,
    )


def encrypted_key_pair(lab: Lab) -> Case:
    """The key came as an encrypted file, and new ones are wanted in that form and larger."""
    case = key_pair(lab)
    locked = lab.pair(0).encrypted_pem("a pass phrase").reveal()
    values = {
        **case.values,
        "private_key": locked,
        "passphrase": "a pass phrase",
        "key_file": "encrypted",
        "key_bits": "3072",
    }
    other = lab.pair(1).encrypted_pem("a pass phrase").reveal()
    return replace(
        case,
        values=values,
        wrong_values={**values, "private_key": other},
        wrong=lambda good: [good.replacing(private_key=other)],
    )


def _password(lab: Lab, *, by_itself: bool) -> Case:
    there = lab.vendor("snowflake")
    user, other = f"BASIC_{lab.number()}", f"OTHER_{lab.number()}"
    first = f"ktlab-First-{lab.number()}-password"
    facts = {"roles": [ROLE], "default_role": ROLE, **({"owner": ROLE} if by_itself else {})}
    there.post("users", {"name": user, "password": first, **facts})
    there.post("users", {"name": other, "password": DEMO_PASSWORD, **facts})
    values = {**_place(there), "user": user, "password": first, **({} if by_itself else ADMIN)}

    def person(task: Task) -> dict[str, str]:
        """The administrator, asked for a password because nobody here has one."""
        brought = f"ktlab-Brought-{lab.number()}-{task.id}"
        there.post("users", {"name": user, "password": brought, "disabled": False})
        return {"password": brought}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, Material({"user": other, "password": DEMO_PASSWORD}, frozenset({"user"}))

    return Case(
        "snowflake",
        "password",
        values,
        alive=lambda: {
            each["value"] for each in there.alive() if each["owner"] == user and each["kind"] == "password"
        },
        of=lambda material: material["password"],
        wrong_values={**values, "password": "ktlab-not-the-Password-1"},
        person=person,
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-Password-1"),
            Material({"user": "NOBODY_HERE", "password": "ktlab-wrong-Password-1"}, good.public),
        ],
        codes=frozenset({"390100"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=READS,
        secured=lambda _authority: {"protocol": "https"},
        throttled=lambda: _throttled(there, "login"),
        throttle_says_wait=False,  # 429 without a time
        elsewhere=elsewhere,
        lost=partial(_lost, there, {"set": "alter_user_set", "revoke": "alter_user_unset"}),
        deadline_s=2.0,
    )


def password_by_an_administrator(lab: Lab) -> Case:
    return _password(lab, by_itself=False)


def password_by_itself(lab: Lab) -> Case:
    return _password(lab, by_itself=True)


def _oauth(lab: Lab, *, by_itself: bool) -> Case:
    there = lab.vendor("snowflake")
    user, other = f"GRANTS_{lab.number()}", f"STRANGER_{lab.number()}"
    for name in (user, other):
        there.post("users", {"name": name, "password": DEMO_PASSWORD, "roles": [ROLE], "default_role": ROLE})
    integration = f"HUB_{lab.number()}"
    owner = {"owner": ROLE} if by_itself else {}
    made = there.post(
        "integrations", {"name": integration, "properties": {"OAUTH_REDIRECT_URI": CALLBACK}, **owner}
    )
    grant = there.post("consents", {"user": user, "integration": integration, "role": ROLE})
    values = {
        **_place(there),
        "user": user,
        "role": ROLE,
        "integration": integration,
        "client_id": made["client_id"],
        "client_secret": made["secrets"][0],
        "refresh_token": grant["refresh_token"],
        **({} if by_itself else ADMIN),
    }

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        stranger = there.post("consents", {"user": other, "integration": integration, "role": ROLE})
        assert access.acting is not None
        yield access, access.acting.replacing(refresh_token=stranger["refresh_token"])

    def person(task: Task) -> dict[str, str]:
        """The user at the consent page; or the administrator, asked for a pair because nobody here has one."""
        if task.kind == "consent":
            return {"callback_url": people.consent(url_of(task), user)}
        held = {e["id"]: e["value"] for e in there.alive() if e["kind"] == "oauth_client_secret"}
        grant = there.post("consents", {"user": user, "integration": integration, "role": ROLE})
        return {
            "client_secret": held[f"{integration}/OAUTH_CLIENT_SECRET"],
            "refresh_token": grant["refresh_token"],
        }

    ops = {
        "issue": "alter_integration",
        "revoke": "alter_integration",
        "exchange": "oauth_token",
        "refresh": "oauth_token",
    }

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        if by_itself and call == "exchange":  # its look at the slots asks for a token of its own first
            access = replace(access, acting=None if access.acting is None else _without_grant(access.acting))
        there.arm(ops[call], "answer_lost")
        yield access

    return Case(
        "snowflake",
        "oauth",
        values,
        alive=lambda: {
            each["value"]
            for each in there.alive()
            # Both slots always hold a secret; one that no client ever showed was given to nobody.
            if each["owner"] == integration and each["facts"].get("used")
        },
        of=lambda material: material["client_secret"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [
            good.replacing(client_secret="ktlab-wrong-secret"),
            good.replacing(refresh_token="ktlab-wrong-token"),
        ],
        codes=frozenset({"invalid_client", "invalid_grant"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=READS,
        secured=lambda _authority: {"protocol": "https"},
        throttled=lambda: _throttled(there, "oauth_token"),
        throttle_says_wait=False,  # 429 without a time
        elsewhere=elsewhere,
        lost=lost,
        consent=lambda url: people.consent(url, user),
        other_consent=lambda url: people.consent(url, other),
        slot=Ref(id="OAUTH_CLIENT_SECRET_2", slot="OAUTH_CLIENT_SECRET_2"),
        deadline_s=2.0,
    )


def _without_grant(pair: Material) -> Material:
    return Material({k: v for k, v in pair.items() if k != "refresh_token"}, pair.public)


def oauth(lab: Lab) -> Case:
    """A grant that was made elsewhere and is typed in, with an administrator."""
    return _oauth(lab, by_itself=False)


def oauth_by_itself(lab: Lab) -> Case:
    """The role of the grant owns the integration, so the pair signs its own rotation."""
    return _oauth(lab, by_itself=True)


def oauth_by_consent(lab: Lab) -> Case:
    """A grant that begins here, in the browser."""
    case = oauth(lab)
    values = {k: v for k, v in case.values.items() if k not in {"client_secret", "refresh_token"}}
    waiting = replace(case, values=values, wrong_values={**values, "admin_password": "ktlab-wrong"})
    assert case.consent is not None and case.other_consent is not None
    waiting.first = lambda: granted(waiting, case.consent or (lambda url: url))
    waiting.elsewhere = partial(granted_elsewhere, waiting, case.other_consent)
    waiting.slot = Ref(id="OAUTH_CLIENT_SECRET_2", slot="OAUTH_CLIENT_SECRET_2")
    return waiting


def _snowflake_fingerprint(material: Material) -> str:
    from keyturn.connectors.snowflake import client

    return str(client.pair_of(material).fingerprint)


ROWS = {
    "snowflake/key_pair": key_pair,
    "snowflake/key_pair encrypted": encrypted_key_pair,
    "snowflake/password by an administrator": password_by_an_administrator,
    "snowflake/password by itself": password_by_itself,
    "snowflake/oauth": oauth,
    "snowflake/oauth by itself": oauth_by_itself,
    "snowflake/oauth by consent": oauth_by_consent,
}
