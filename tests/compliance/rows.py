"""Every row as a person would connect it to the lab, with the oracle, the scripted people and the ways to break it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keyturn.catalog import Catalog
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.credential import Ref
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.operations.forms import read_form
from keyturn.testing import Aim, Relay, RowUnderTest
from keyturn_lab import guard, people
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.parts.aws import Key
from keyturn_lab.parts.postgres import Role
from tests.compliance.lab import Lab
from tests.faults import shapes_connector as shapes
from tests.faults import world

DEFINITIONS = Path(__file__).resolve().parents[2] / "demo" / "definitions"
NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))
ME = "integration@acme.example"
OTHER = "admin@acme.example"
FAST = {"settle_create_s": 1.0, "settle_revoke_s": 0.6, "drain_min_s": 0.05}


@dataclass
class Case:
    """One row with a fresh principal.

    `values` is what a person types into the form. `alive` is the oracle: public names of what is alive at the vendor on
    this principal; `of` gives the same name for a material. `person` answers a task.
    """

    system: str
    method: str
    values: Mapping[str, str]
    alive: Callable[[], set[str]]
    of: Callable[[Material], str]
    wrong_values: Mapping[str, str]
    policy: Mapping[str, Any] = field(default_factory=lambda: dict(FAST))
    definition: str = ""
    person: Callable[[Task], dict[str, str]] = lambda task: {}
    first: Callable[[], Material] | None = None
    wrong: Callable[[Material], list[Material]] = lambda good: []
    codes: frozenset[str] = frozenset()
    aim: Callable[[Aim], dict[str, Any]] = lambda aim: {}
    throttled: Callable[[], AbstractContextManager[object]] = nullcontext
    elsewhere: Callable[[Access], AbstractContextManager[tuple[Access, Material]]] | None = None
    lost: Callable[[Access, str], AbstractContextManager[Access]] | None = None
    consent: Callable[[str], str] | None = None
    other_consent: Callable[[str], str] | None = None  # the same page, another person
    slot: Ref = field(default_factory=Ref)
    nameless: str = ""
    throttle_says_wait: bool = True
    deadline_s: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def definition_hash(self) -> str:
        return hashlib.sha256(self.definition.encode()).hexdigest() if self.definition else ""

    def catalog(self) -> Catalog:
        return Catalog({self.definition_hash: self.definition}.get, extra=self.extra)


def under_test(name: str, case: Case) -> RowUnderTest:
    """The case as the contract suite takes it."""
    catalog = case.catalog()
    row = catalog.row(case.system, case.method, case.values, case.definition_hash)
    settings, material, admin = read_form(name, row.method, case.values)
    row = catalog.row(case.system, case.method, settings, case.definition_hash)
    access = Access(settings, material, admin, 10.0, NETWORK)
    good = material
    if case.first is not None:
        good = case.first()
        access = replace(access, acting=good)
    return RowUnderTest(
        name=name,
        method=row.method,
        card=row.card,
        can=row.can,
        access=access,
        good=good,
        identity=row.can.verifier.verify(access, good).identity,
        wrong=case.wrong(good),
        codes=case.codes,
        aimed=lambda aim: replace(access, settings={**settings, **case.aim(aim)}),
        throttled=case.throttled,
        elsewhere=partial(case.elsewhere, access) if case.elsewhere else None,
        **({"lost": partial(case.lost, access)} if case.lost else {}),
        **({"consent": case.consent} if case.consent else {}),
        slot=case.slot,
        nameless=case.nameless,
        throttle_says_wait=case.throttle_says_wait,
        deadline_s=case.deadline_s,
    )


@contextmanager
def undone(begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    begin()
    try:
        yield
    finally:
        end()


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


def _sql(lab: Lab, statement: str) -> None:
    with lab.postgres.connect() as session:
        session.execute(statement)


def _opens(lab: Lab, material: Mapping[str, str]) -> bool:
    return bool(lab.postgres.accepts(Role(material["user"], material["password"])))


def _pg_base(lab: Lab) -> dict[str, str]:
    return {
        "host": lab.postgres.host,
        "port": str(lab.postgres.port),
        "database": "postgres",
        "sslmode": "disable",
    }


@contextmanager
def _pg_lost(lab: Lab, access: Access, call: str) -> Iterator[Access]:
    del call
    with Relay(lab.postgres.host, lab.postgres.port, b"ALTER ROLE") as relay:
        yield replace(access, settings={**access.settings, "host": relay.host, "port": relay.port})
        assert relay.lost.is_set(), "nothing was changed through the relay"


def _pg_one(lab: Lab, *, admin: bool) -> Case:
    role = lab.postgres.create_role(f"one_{lab.number()}")
    other = lab.postgres.create_role(f"other_{lab.number()}")
    values = {**_pg_base(lab), "user": role.name, "password": role.password}
    if admin:
        values |= {"admin_user": lab.rotator.name, "admin_password": lab.rotator.password}

    def alive() -> set[str]:
        return {each["facts"]["verifier"] for each in lab.postgres.alive() if each["id"] == role.name}

    return Case(
        "postgresql",
        "password",
        values,
        alive=alive,
        of=lambda material: _verifier_that(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-password"),
            Material({"user": "nobody_here", "password": "ktlab-wrong-password"}, good.public),
        ],
        codes=frozenset({"28P01", "28000"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        throttled=lambda: undone(
            lambda: _sql(lab, f"ALTER ROLE {role.name} CONNECTION LIMIT 0"),
            lambda: _sql(lab, f"ALTER ROLE {role.name} CONNECTION LIMIT -1"),
        ),
        elsewhere=lambda access: nullcontext(
            (access, Material({"user": other.name, "password": other.password}, frozenset({"user"})))
        ),
        lost=partial(_pg_lost, lab),
    )


def _verifier_that(lab: Lab, material: Material) -> str:
    """The verifier the server holds if this value opens it; else something that is in no inventory."""
    if not _opens(lab, material):
        return "not alive"
    return next(each["facts"]["verifier"] for each in lab.postgres.alive() if each["id"] == material["user"])


def postgresql_admin(lab: Lab) -> Case:
    return _pg_one(lab, admin=True)


def postgresql_self(lab: Lab) -> Case:
    return _pg_one(lab, admin=False)


def postgresql_two(lab: Lab) -> Case:
    made = lab.postgres.two_role_setup(f"two{lab.number()}")
    stranger = lab.postgres.two_role_setup(f"two{lab.number()}")
    values = {
        **_pg_base(lab),
        "roles": "two",
        "user": made.active.name,
        "password": made.active.password,
        "role_a": made.active.name,
        "role_b": made.idle,
        "group_role": made.owner,
        "admin_user": lab.rotator.name,
        "admin_password": lab.rotator.password,
    }
    names = {made.active.name, made.idle}
    return Case(
        "postgresql",
        "password",
        values,
        alive=lambda: {e["facts"]["verifier"] for e in lab.postgres.alive() if e["id"] in names},
        of=lambda material: _verifier_that(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [good.replacing(password="ktlab-wrong-password")],
        codes=frozenset({"28P01", "28000"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        throttled=lambda: undone(
            lambda: _sql(lab, f"ALTER ROLE {made.active.name} CONNECTION LIMIT 0"),
            lambda: _sql(lab, f"ALTER ROLE {made.active.name} CONNECTION LIMIT -1"),
        ),
        elsewhere=lambda access: nullcontext(
            (
                access,
                Material(
                    {"user": stranger.active.name, "password": stranger.active.password}, frozenset({"user"})
                ),
            )
        ),
        lost=partial(_pg_lost, lab),
        slot=Ref(id="role_b", slot="role_b"),
    )


# -- AWS -----------------------------------------------------------------------------------------------------------


def s3_customer(lab: Lab) -> Case:
    aws, account = lab.aws, lab.aws.account
    app = _fresh_key(lab)
    values = {
        "bucket": account.bucket,
        "region": account.region,
        "user_name": app.user,
        "access_key_id": app.access_key_id,
        "secret_access_key": app.secret_access_key,
        "admin_access_key_id": account.rotator.access_key_id,
        "admin_secret_access_key": account.rotator.secret_access_key,
        "iam_endpoint": aws.url,
        "sts_endpoint": aws.url,
        "s3_endpoint": aws.url,
    }
    ops = {"issue": "CreateAccessKey", "disable": "UpdateAccessKey", "revoke": "DeleteAccessKey"}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        aws.arm(ops[call], "answer_lost")
        yield access

    rotator = Material(
        {
            "access_key_id": account.rotator.access_key_id,
            "secret_access_key": account.rotator.secret_access_key,
        },
        frozenset({"access_key_id"}),
    )
    return Case(
        "s3-customer",
        "access_key",
        values,
        alive=lambda: {each["id"] for each in aws.alive() if each["owner"] == app.user},
        of=lambda material: material["access_key_id"],
        wrong_values={**values, "secret_access_key": "ktlab" + "x" * 35},
        wrong=lambda good: [
            good.replacing(secret_access_key="ktlab" + "x" * 35),
            good.replacing(access_key_id="AKIAAAAAAAAAAAAAAAAA"),
        ],
        codes=frozenset({"SignatureDoesNotMatch", "InvalidClientTokenId"}),
        aim=lambda aim: dict.fromkeys(("iam_endpoint", "sts_endpoint", "s3_endpoint"), aim.url),
        throttled=lambda: undone(lambda: aws.arm("GetCallerIdentity", "throttle"), lambda: None),
        throttle_says_wait=False,  # AWS names no time
        elsewhere=lambda access: nullcontext((access, rotator)),
        lost=lost,
        deadline_s=2.0,
    )


def _fresh_key(lab: Lab) -> Key:
    """The application user with one key."""
    iam = lab.aws.client("iam", lab.aws.account.rotator)
    user = lab.aws.account.app.user
    for record in lab.aws.records():
        if record["owner"] == user:
            iam.delete_access_key(UserName=user, AccessKeyId=record["id"])
    made = iam.create_access_key(UserName=user)["AccessKey"]
    iam.close()
    key = Key(user, made["AccessKeyId"], made["SecretAccessKey"])
    lab.app_keys.append(key)
    return key


# -- Snowflake -----------------------------------------------------------------------------------------------------


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


# -- Freshdesk, Aha!, Jira -----------------------------------------------------------------------------------------


def freshdesk(lab: Lab) -> Case:
    there = lab.vendor("freshdesk")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    key = people.freshdesk_view_key(there.url, ME)
    values = {"domain": "acme", "base_url": there.url, "api_key": key}

    def person(task: Task) -> dict[str, str]:
        made = people.freshdesk_reset_key(there.url, ME)
        return {"api_key": made} if task.kind == "supply" else {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, Material({"api_key": people.freshdesk_view_key(there.url, OTHER)})

    return Case(
        "freshdesk",
        "api_key",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ME},
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": "ktlabNotTheKeyAtAll01"},
        person=person,
        wrong=lambda good: [good.replacing(api_key="ktlabNotTheKeyAtAll01")],
        codes=frozenset({"401 invalid_credentials", "invalid_credentials", "401", "credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


def aha(lab: Lab) -> Case:
    there = lab.vendor("aha")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    key = people.aha_generate_key(there.url, ME, "first key")
    values = {"subdomain": "acme", "base_url": there.url, "api_key": key, "key_name": "first key"}

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            name = f"keyturn {lab.number()}"
            return {"api_key": people.aha_generate_key(there.url, ME, name), "key_name": name}
        known = people.aha_key_names(there.url, ME)
        text = " ".join(str(each["text"]) for each in task.instructions)
        (named,) = [name for name in known if f"named {name}" in text]
        people.aha_delete_key(there.url, ME, named)
        return {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = people.aha_generate_key(there.url, OTHER, "another's key")
        time.sleep(0.15)
        yield access, Material({"api_key": other})

    time.sleep(0.15)
    return Case(
        "aha",
        "api_key",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ME},
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": "ktlabNotTheKeyAtAll01"},
        person=person,
        wrong=lambda good: [good.replacing(api_key="ktlabNotTheKeyAtAll01")],
        codes=frozenset({"401", "credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


def jira(lab: Lab) -> Case:
    there = lab.vendor("jira")
    there.post("reset", {})
    app = there.get("apps")[0]
    app = there.post(
        "apps", {"client_id": app["client_id"], "callback": "http://127.0.0.1:8425/oauth/callback"}
    )
    there.post("settings", {"leeway_s": 0.2})  # ten minutes in truth: the policy says so where it is shorter
    values = {
        "auth_url": there.url,
        "api_url": there.url,
        "client_id": app["client_id"],
        "client_secret": app["client_secret"],
    }

    def consent(url: str) -> str:
        return people.jira_consent(url, ME, site="acme")

    def person(task: Task) -> dict[str, str]:
        if task.kind == "consent":
            return {"callback_url": consent(_url(task))}
        people.jira_remove_grant(there.url, ME, app["client_id"])
        return {}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(call, "answer_lost")
        yield access

    case = Case(
        "jira",
        "oauth",
        values,
        alive=lambda: {e["value"] for e in there.alive() if e["owner"] == ME and "refresh" in e["kind"]},
        of=lambda material: material["refresh_token"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [good.replacing(access_token="ktlab.wrong.token")],
        codes=frozenset({"401", "credential_invalid"}),
        aim=lambda aim: {"auth_url": aim.url, "api_url": aim.url},
        throttled=lambda: undone(lambda: there.arm("*", "throttle", times=None), there.disarm),
        lost=lost,
        consent=consent,
    )
    case.first = lambda: _granted(case, consent)
    case.other_consent = lambda url: people.jira_consent(url, OTHER, site="acme")
    case.elsewhere = partial(_granted_elsewhere, case, case.other_consent)
    return case


def _url(task: Task) -> str:
    return next(str(each["url"]) for each in task.instructions if each.get("url"))


def _granted(case: Case, consent: Callable[[str], str]) -> Material:
    """A first grant, as the hub would get it."""
    import secrets

    catalog = case.catalog()
    row = catalog.row(case.system, case.method, case.values, case.definition_hash)
    settings, material, admin = read_form("a row", row.method, case.values)
    access = Access(settings, material, admin, 10.0, NETWORK)
    session = {
        "state": secrets.token_urlsafe(24),
        "code_verifier": secrets.token_urlsafe(48),
        "redirect_uri": "http://127.0.0.1:8425/oauth/callback",
    }
    assert row.can.authorizer is not None
    callback = consent(row.can.authorizer.begin(access, session))
    return row.can.authorizer.read(
        access, row.can.authorizer.exchange(access, session, callback), None
    ).material


@contextmanager
def _granted_elsewhere(
    case: Case, consent: Callable[[str], str], access: Access
) -> Iterator[tuple[Access, Material]]:
    yield access, _granted(case, consent)


# -- custom REST ---------------------------------------------------------------------------------------------------


def oidc_client(lab: Lab) -> Case:
    """Client credentials with dynamic registration: each rotation is a client of its own."""
    op = lab.oidc
    made = op.register(f"row-{lab.number()}")
    values = {
        "issuer": op.url,
        "client_id": made.client_id,
        "client_secret": made.client_secret,
        "registration_access_token": made.registration_access_token or "",
        "initial_access_token": op.initial_access_token,
    }
    known = {each["id"] for each in op.alive()}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        op.arm({"issue": "register", "revoke": "unregister"}[call], "answer_lost")
        yield access

    def alive() -> set[str]:
        now = {each["id"] for each in op.alive() if each["kind"] == "client"}
        return {each for each in now if each not in known or each == made.client_id}

    return Case(
        "custom-rest",
        "oauth2",
        values,
        alive=alive,
        of=lambda material: material["client_id"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        definition=(DEFINITIONS / "oidc-client.yaml").read_text(),
        wrong=lambda good: [
            good.replacing(client_secret="ktlab-not-the-secret"),
            good.replacing(client_id="lab-nobody"),
        ],
        codes=frozenset({"401 invalid_client", "invalid_client", "client_invalid", "401"}),
        aim=lambda aim: {"issuer": aim.url},
        throttled=lambda: undone(lambda: op.arm("me", "throttle"), lambda: None),
        lost=lost,
        nameless="each rotation makes a new client, and the provider names no owner",
    )


def oidc_grant(lab: Lab) -> Case:
    """A person's consent with rotated refresh tokens."""
    op = lab.oidc
    login = f"ana{lab.number()}@acme"
    values = {"issuer": op.url, "client_id": op.web.client_id, "client_secret": op.web.client_secret}

    def consent(url: str) -> str:
        return str(op.consent(url, login))

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        op.arm({"revoke": "revocation"}.get(call, "token"), "answer_lost")
        yield access

    def alive() -> set[str]:
        return {
            each["value"] for each in op.alive() if each["owner"] == login and each["kind"] == "RefreshToken"
        }

    case = Case(
        "custom-rest",
        "oauth2",
        values,
        alive=alive,
        of=lambda material: material["refresh_token"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        definition=(DEFINITIONS / "oidc-grant.yaml").read_text(),
        person=lambda task: {"callback_url": consent(_url(task))} if task.kind == "consent" else {},
        wrong=lambda good: [good.replacing(access_token="ktlab-wrong-token")],
        codes=frozenset({"401", "invalid_token", "401 invalid_token", "credential_invalid"}),
        aim=lambda aim: {"issuer": aim.url},
        throttled=lambda: undone(lambda: op.arm("me", "throttle"), lambda: None),
        lost=lost,
        consent=consent,
    )
    case.first = lambda: _granted(case, consent)
    case.other_consent = lambda url: str(op.consent(url, "eve@elsewhere"))
    case.elsewhere = partial(_granted_elsewhere, case, case.other_consent)
    return case


# -- every shape ---------------------------------------------------------------------------------------------------


def shape(method: str, lab: Lab) -> Case:
    """One shape of the fault matrix's vendor."""
    client, name = lab.shapes.client, f"p{lab.number()}"
    made = shapes.provision(client, method, name)
    system = shapes.system()
    row = system.method(method)
    assert row is not None
    known = {f.name for f in row.fields}
    typed = {**made.settings, **dict(made.material), **dict(made.admin or {})}
    values = {k: v for k, v in typed.items() if k in known}
    secret = "access_token" if method == "grant" else "secret"

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            return _shapes_supply(client, method, name, made.ref.slot)
        if task.kind == "consent":
            return {"callback_url": shapes.person_consents(_url(task))}
        found = re.search(r"Delete the key (\S+) of", " ".join(str(i["text"]) for i in task.instructions))
        assert found
        shapes.person_deletes(client, name, found[1])
        return {}

    ops = {
        "set": "set",
        "issue": "issue" if method == "many_ids" else "regenerate",
        "disable": "disable",
        "revoke": {"grant": "revoke", "many_ids": "delete"}.get(method, "clear"),
        "exchange": "exchange",
        "refresh": "refresh",
    }

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        _shapes_fault(client, name, ops[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = shapes.provision(client, method, f"{name}-other")
        yield replace(access, settings={**access.settings, "principal": f"{name}-other"}), other.material

    return Case(
        "shapes",
        method,
        values,
        alive=lambda: _shapes_alive(client, name, method),
        of=lambda material: material.get("grant_id") or material[secret],
        wrong_values={**values, secret: "ktlab-not-the-value-at-all"},
        policy={"drain_min_s": 0.02},
        person=person,
        wrong=lambda good: [good.replacing(**{secret: "ktlab-not-the-value-at-all"})],
        codes=frozenset({"invalid_credentials", "disabled"}),
        aim=lambda aim: {"address": f"{aim.host}:{aim.port}"},
        throttled=lambda: undone(
            lambda: _shapes_fault(client, name, "login", "throttle_storm", seconds=3.0),
            lambda: client.call("disarm", principal=name),
        ),
        elsewhere=elsewhere,
        lost=lost,
        consent=shapes.person_consents,
        slot=_shapes_slot(method, made),
        extra={"shapes": world.external()},
    )


def _shapes_supply(client: Any, method: str, name: str, slot: str) -> dict[str, str]:
    """What the vendor's page lets a person do for this shape."""
    if not slot:
        return shapes.pasted(shapes.person_supplies(client, name))
    if method in {"named_slots", "regenerate"}:
        said = client.call("regenerate", principal=name, by="person", slot=slot)
        return {"slot": slot, "secret": str(said["value"])}
    value = guard.mint("shapes_key")
    client.call("set", principal=name, by="person", slot=slot, value=value)
    return {"slot": slot, "secret": value}


def _shapes_slot(method: str, made: shapes.Provisioned) -> Ref:
    names = {"two_slots": ("a", "b"), "named_slots": ("k1", "k2")}.get(method)
    if names is None:
        return Ref(id=made.ref.slot, slot=made.ref.slot) if made.ref.slot else Ref()
    free = next(each for each in names if each != made.ref.slot)
    return Ref(id=free, slot=free)


def _shapes_fault(client: Any, name: str, op: str, kind: str, **more: Any) -> None:
    client.call("arm", principal=name, hits=op, kind=kind, **more)


def _shapes_alive(client: Any, name: str, method: str) -> set[str]:
    """Ours that would be accepted; strangers are nobody's business."""
    living = [each for each in client.call("alive", principal=name) if each["by"] != "stranger"]
    return {each["id"] if method == "grant" else each["value"] for each in living if each["usable"]}


ROWS: dict[str, Callable[[Lab], Case]] = {
    "postgresql/password by an administrator": postgresql_admin,
    "postgresql/password by itself": postgresql_self,
    "postgresql/password two roles": postgresql_two,
    "s3-customer/access_key": s3_customer,
    "snowflake/key_pair": snowflake,
    "freshdesk/api_key": freshdesk,
    "aha/api_key": aha,
    "jira/oauth": jira,
    "custom-rest/oauth2 client": oidc_client,
    "custom-rest/oauth2 consent": oidc_grant,
    **{f"shapes/{method}": partial(shape, method) for method in shapes.SHAPES},
}
