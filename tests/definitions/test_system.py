"""System files: those we ship, and the mistakes in others."""

from pathlib import Path

import pytest

from keyturn.contract.manifest import Method
from keyturn.definitions.check import accept, check
from keyturn.definitions.interpreter import capabilities
from keyturn.definitions.model import Definition
from keyturn.definitions.system import as_method, read_system
from keyturn.errors import InvalidInput
from keyturn.model.card import GapClass, Hands, Lockout, Proof, RevokeScope, Strategy

CONNECTORS = Path(__file__).parents[2] / "src/keyturn/connectors"
OURS = ("freshdesk", "aha", "jira", "custom_rest", "productboard", "zuora", "ecosystem")

SMALL = """\
schema: keyturn-system/v1
system: small-db
title: Small
summary: A database.
methods:
  password:
    title: Password
    direction: outbound
    summary: One password.
    fields:
      host: {label: Host}
      user: {label: User, part: true}
      password: {label: Password, secret: true}
      two: {label: Two roles, kind: boolean, default: false}
    principal: [host, user]
    card: {strategy: S4, hands: automatic, gap_class: Z1, proof: D1, lockout: {max_failures: 3, window_s: 60}, slots: 1}
    variants: [{name: two roles, field: two, equals: true, card: {strategy: S1, gap_class: Z0, slots: many, cap: 2}}]
    guide: {recovery: [Ask the administrator, {text: "Set it for ${input.user}", button: Save}], paste_fields: [password]}
    permissions: [{right: CREATEROLE, who: Administrator, why: To set passwords, grant: GRANT}]
    sources: [{title: Manual, url: "https://x.example", checked: 2026-11-23}]
    unsupported: {list: Passwords cannot be listed}
    env: {DB_PASSWORD: "${secret.password}"}
"""


def _load(name):
    path = CONNECTORS / name / "definition.yaml"
    return read_system(path.read_text(), str(path))


@pytest.mark.parametrize("name", OURS)
def test_what_we_ship_is_read_and_clean(name):
    """No finding at all, every method with dated sources."""
    path = CONNECTORS / name / "definition.yaml"
    report = check(path.read_text(), str(path))
    assert report.findings == ()
    for method in report.system.methods:
        assert all(s.checked == "2026-11-23" for s in method.sources)
        assert method.sources


def test_freshdesk():
    """One key, the new kills the old, a person resets it and it can be viewed again."""
    method = _load("freshdesk").method("api_key")
    card = method.card
    assert (card.strategy, card.hands, card.gap_class, card.proof) == (
        Strategy.REGENERATE,
        Hands.GUIDED,
        GapClass.Z2,
        Proof.D2,
    )
    assert (card.new_kills_old, card.secret_reviewable, card.lockout) == (True, True, Lockout(10, 600))
    assert (method.requires_pause, method.paste_fields, method.principal) == (
        True,
        ("api_key",),
        ("domain", "proven_account"),
    )
    assert method.create_steps
    assert method.recovery_steps
    assert method.revoke_steps
    assert method.field("base_url").required is False
    assert isinstance(method.rest, Definition)


def test_freshdesk_with_two_agents():
    """The variant has a guide of its own and needs the two agents named; one agent's stays as it is."""
    method = _load("freshdesk").method("api_key")
    two = method.fitting({"agents": "two"})
    assert (two.requires_pause, two.paste_fields) == (False, ("api_key", "agent"))
    assert two.create_steps != method.create_steps
    assert [name for name in ("first_agent", "second_agent", "agent") if two.field(name).required]
    assert not method.field("agent").required
    assert method.fitting({"agents": "one"}) is method


def test_aha():
    """Overlap by hand; the key's name is asked for, so that the right row is deleted."""
    method = _load("aha").method("api_key")
    assert (method.card.strategy, method.card.gap_class, method.card.slots) == (
        Strategy.SUPPLIED,
        GapClass.Z0,
        None,
    )
    assert method.paste_fields == ("api_key", "key_name")
    assert (method.field("key_name").secret, method.field("key_name").part) == (False, True)


def test_jira():
    """Consent; the grant is shared, so it is never revoked in a rotation."""
    method = _load("jira").method("oauth")
    assert (method.card.strategy, method.card.revoke_scope) == (Strategy.CONSENT, RevokeScope.GRANT)
    assert [(f.name, f.secret, f.group) for f in method.fields if f.group] == [
        ("client_id", False, "admin"),
        ("client_secret", True, "admin"),
    ]
    assert method.field("api_url").default == "https://api.atlassian.com"
    assert "revoke" in method.unsupported


def test_custom_rest_takes_the_users_definition(sample):
    """The placeholder's card and fields give way."""
    system = _load("custom_rest")
    assert [m.name for m in system.methods] == ["none", "basic", "token", "oauth2"]
    method = system.method("token")
    assert method.rest == "user"
    bound = as_method(accept(sample("acme.yaml"), "x"), method)
    assert [f.name for f in bound.fields] == ["definition", "subdomain", "base_url", "key_id", "api_key"]
    assert bound.card.strategy is Strategy.MANY_IDS
    assert bound.create_steps
    assert bound.principal == ("subdomain", "base_url")
    with pytest.raises(InvalidInput, match="your own definition"):
        capabilities(method.rest)


def test_a_system_without_rest_is_read_whole():
    """Cards, variants merged onto them, guides, permissions."""
    method = read_system(SMALL, "x").method("password")
    assert isinstance(method, Method)
    assert method.card.lockout == Lockout(3, 60)
    assert method.card_for({"two": True}).strategy is Strategy.TWO_SLOTS
    assert (method.card_for({"two": True}).slots, method.card_for({"two": True}).cap) == (None, 2)
    assert method.card_for({"two": True}).lockout == Lockout(3, 60)
    assert method.card_for({}).strategy is Strategy.SET_ONE
    assert method.field("password").part
    assert [s.text for s in method.recovery_steps] == ["Ask the administrator", "Set it for ${input.user}"]
    assert method.sources[0].checked == "2026-11-23"
    assert method.env == {"DB_PASSWORD": "${secret.password}"}


def test_a_variant_may_need_fields_and_have_a_guide_of_its_own():
    """Both hold only where the variant is chosen; a name that is no field is found."""
    more = "needs: [host], guide: {create: [Make two], paste_fields: [password, user], requires_pause: true}, card: {strategy: S1"
    text = SMALL.replace("card: {strategy: S1", more).replace(
        "host: {label: Host}", "host: {label: Host, required: false}"
    )
    method = read_system(text, "x").method("password")
    two = method.fitting({"two": True})
    assert ([s.text for s in two.create_steps], two.paste_fields) == (["Make two"], ("password", "user"))
    assert (two.recovery_steps, two.requires_pause, two.field("host").required) == ((), True, True)
    assert method.fitting({"two": False}) is method
    assert (method.create_steps, method.requires_pause, method.field("host").required) == ((), False, False)
    for wrong in ("needs: [hots]", "paste_fields: [passwort, user]"):
        right = wrong.replace("hots", "host").replace("passwort", "password")
        with pytest.raises(InvalidInput, match="not a field"):
            read_system(text.replace(right, wrong), "x")


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("strategy: S4", "strategy: S9", 16, "methods.password.card.strategy", "not one of the choices"),
        ("strategy: S4, ", "", 16, "methods.password.card.strategy", "is missing"),
        ("slots: 1", "slotz: 1", 16, "methods.password.card.slotz", "not a known key"),
        ("[host, user]", "[host, usr]", 7, "methods.password.principal", "not a field"),
        ("field: two", "field: tow", 7, "methods.password.variants", "not a field"),
        (
            "paste_fields: [password]",
            "paste_fields: [pw]",
            7,
            "methods.password.guide.paste_fields",
            "not a field",
        ),
        (
            "unsupported: {list:",
            "unsupported: {lst:",
            21,
            "methods.password.unsupported.lst",
            "not a capability",
        ),
        ("DB_PASSWORD:", "db-password:", 7, "methods.password.env.db-password", "variable name"),
        ("kind: boolean", "kind: bool", 14, "methods.password.fields.two.kind", "not one of the choices"),
        (
            "{label: Host}",
            '{label: Host, pattern: "("}',
            11,
            "methods.password.fields.host",
            "regular expression",
        ),
        ("direction: outbound", "direction: out", 8, "methods.password.direction", "not one of the choices"),
        ("${input.user}", "${secret.password}", 18, "methods.password.guide.recovery[1].text", "for people"),
        ("who: Administrator, ", "", 19, "methods.password.permissions[0].who", "is missing"),
        ("system: small-db", "system: Small DB", 2, "system", "not a name"),
    ],
)
def test_mistakes_are_named(old, new, line, field, words):
    """Line, field and fix."""
    assert old in SMALL
    with pytest.raises(InvalidInput) as caught:
        read_system(SMALL.replace(old, new, 1), "s.yaml")
    assert any(
        f.startswith(f"s.yaml:{line}: {field}: ") and words in f for f in caught.value.facts["findings"]
    ), caught.value.facts["findings"]
