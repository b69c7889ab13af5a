"""Lint: what refuses a definition and what is only remarked."""

import pytest

from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.check import accept, check
from keyturn.errors import InvalidInput

CREATE = "    request: {method: POST, path: /api-keys}"


def _findings(text, level, network=None):
    return [(f.field, f.message, f.line) for f in check(text, "x.yaml", network).findings if f.level == level]


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("\ntest:\n", "\ntset:\n", "test", "is missing"),
        ('    principal: {json: "$.user.id", cardinality: one}\n', "", "test.identity", "who answered"),
        ('hosts: ["*.acme.example"]', "hosts: []", "hosts", "is empty"),
        ('hosts: ["*.acme.example"]', 'hosts: ["*"]', "hosts", "too wide"),
        ('hosts: ["*.acme.example"]', 'hosts: ["*.example"]', "hosts", "too wide"),
        (
            'base_url: "${input.base_url}/api/v2"',
            'base_url: "http://a.acme.example"',
            "base_url",
            "plain http",
        ),
        (
            'base_url: "${input.base_url}/api/v2"',
            'base_url: "https://evil.example/x"',
            "base_url",
            "not among hosts",
        ),
        ("{in: header, name: X-Api-Key", "{in: query, name: key", "auth.place.key", "in a URL"),
        ("    handle: key_id\n", "    handle: nope\n", "rotation.create.handle", "not extracted"),
        (
            '      api_key: {json: "$.secret", cardinality: one}\n',
            "",
            "rotation.create.extract",
            "no secret part",
        ),
        ("max_active: 2", "max_active: 1", "rotation.mode", "max_active: 1"),
        (
            'pattern: "^ak_[A-Za-z0-9]{8,64}$"',
            'pattern: "^ak_.*$"',
            "credential.parts.api_key",
            "upper bound",
        ),
        (
            "${retiring.key_id|urlencode}",
            "${step.create.id}",
            "rotation.revoke.request.path",
            "step.create.id is not defined",
        ),
        (
            "${retiring.key_id|urlencode}",
            "${pending.key_id}",
            "rotation.revoke.request.path",
            "does not exist here",
        ),
        ("path: /me}", 'path: "/me/${secret.api_key}"}', "test.request.path", "may not be used here"),
        ("path: /me}", 'path: "/me/${input.nope}"}', "test.request.path", "input.nope is not defined"),
        ("query: {limit:", 'query: {k: "${secret.api_key}", limit:', "discover.request.query.k", "in a URL"),
        ("{method: GET, path: /me}", "{method: POST, path: /me}", "test.request.method", "safe: true"),
        (
            "negative_control: {mode: required}",
            "negative_control: {mode: unsupported, reason: none}",
            "rotation.dead_check.expect",
            "proves no death",
        ),
        ("paste_fields: [key_id, api_key]", "paste_fields: [nope]", "manual.paste_fields", "no part"),
        (
            'name: "keyturn ${job.date} ${job.marker}"',
            'name: "${admin.token}"',
            "rotation.create.request.json",
            "admin.token is not defined",
        ),
    ],
)
def test_each_rule_refuses(sample, old, new, field, words):
    """With the line of the block and the way out; `accept` raises it."""
    text = sample("acme.yaml")
    assert old in text
    broken = text.replace(old, new, 1)
    found = _findings(broken, "refuse")
    assert any(f == field and words in m and line > 0 for f, m, line in found), found
    with pytest.raises(InvalidInput):
        accept(broken, "x.yaml")


def _without(text, start, end):
    return text[: text.index(start)] + text[text.index(end) :]


def test_revoke_without_dead_check_is_refused(sample):
    """A delete that nobody proves is hope."""
    text = _without(sample("acme.yaml"), "  dead_check:\n    with", "manual:")
    assert any(f == "rotation.dead_check" for f, _, _ in _findings(text, "refuse"))


def test_a_created_credential_that_could_never_be_revoked_is_refused(sample):
    """No handle and no revoke by value."""
    text = _without(sample("acme.yaml"), "  revoke:\n", "  dead_check:").replace("    handle: key_id\n", "")
    assert any("never be revoked" in m for _, m, _ in _findings(text, "refuse"))


def test_missing_manual_steps_are_refused_when_nothing_is_declared(sample):
    """Somebody has to do it."""
    text = _without(sample("acme.yaml"), "rotation:\n", "manual:")
    text = text[: text.index("manual:")]
    assert any(f == "manual" for f, _, _ in _findings(text, "refuse"))


def test_listed_absent_needs_an_inventory(sample):
    """What cannot be listed cannot be seen to be absent."""
    text = _without(sample("acme.yaml"), "discover:\n", "errors:")
    assert any(f == "rotation.dead_check.also" for f, _, _ in _findings(text, "refuse"))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (
            "  - {when: {status: [429]}, class: rate_limited, wait: {header: Retry-After, as: seconds}}\n",
            "",
            "errors",
        ),
        ("  - {when: {status: [401]}, class: credential_invalid}\n", "", "errors"),
        ("  expiry: {policy_days: 90, warn_days: [14, 3]}\n", "", "credential.expiry"),
        ("{method: GET, path: /me}", "{method: POST, path: /me, safe: true}", "test.request.method"),
        ('principal: {json: "$.user.id", cardinality: one}', "none: nobody is told", "test.identity"),
        ("  effect: overlap\n", "", "manual.effect"),
        (
            '{in: header, name: X-Api-Key, format: "${secret.api_key}"}',
            '{in: query, name: k, format: "${secret.api_key}"}\n  allow_secret_in_url: true',
            "auth.place.k",
        ),
    ],
)
def test_remarks_do_not_refuse(sample, old, new, field):
    """They are shown, and the definition works."""
    text = sample("acme.yaml")
    assert old in text
    changed = text.replace(old, new, 1)
    assert _findings(changed, "refuse") == []
    assert field in [f for f, _, _ in _findings(changed, "warn")]


def test_the_samples_are_clean(sample):
    """But for what the provider does not tell."""
    assert check(sample("acme.yaml"), "x").findings == ()
    assert check(sample("legacy-password.json"), "x").usable
    assert [f.field for f in check(sample("oidc-client.yaml"), "x").findings] == ["test.identity"]


def test_plain_http_passes_for_a_host_the_operator_opened(sample):
    """The lab, or a host inside the company."""
    text = sample("acme.yaml").replace(
        'base_url: "${input.base_url}/api/v2"', 'base_url: "http://127.0.0.1:8080/x"'
    )
    assert check(text, "x", NetworkPolicy(frozenset({"127.0.0.1:8080"}))).usable
    assert not check(text, "x").usable
