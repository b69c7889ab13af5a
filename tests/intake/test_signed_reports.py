"""Leak reports that a scanning service signs, from a service that is honest and from many that are not."""

import base64
import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from tests.api.test_door import is_problem
from tests.datasets.app import intake_app
from tests.waiting import wait_for

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput
from keyturn.issued.book import IssuedBook
from keyturn.keymaking import ecdsa, passwords
from keyturn.operations import issued, leaks, runs, signed_reports
from keyturn.settings import Settings

PUBLISHED = (  # GitHub's own example, from the page that the module names
    b'[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]',
    "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==",
)


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Service:
    """Serves public keys over HTTP, and signs. `answer` changes what it serves."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.listed = {"k1": pem(self.key)}
        self.answer = None
        self.asked = 0
        it = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                it.asked += 1
                keys = [
                    {"key_identifier": k, "key": v, "is_current": k == "k1"} for k, v in it.listed.items()
                ]
                status, body = it.answer or (200, json.dumps({"public_keys": keys}).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sign(self, raw, key=None):
        made = (key or self.key).sign(raw, ec.ECDSA(SHA256()))
        return base64.b64encode(made).decode()

    def headers(self, raw, key_id="k1", signature=None):
        return {
            "Content-Type": "application/json",
            "Github-Public-Key-Identifier": key_id,
            "Github-Public-Key-Signature": self.sign(raw) if signature is None else signature,
        }


@pytest.fixture
def service():
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def open_hub(hub, service, monkeypatch):
    """The hub as its operator set it up to believe the service; `open_hub(...)` changes the settings."""
    monkeypatch.setattr(signed_reports, "_kept", {})

    def make(leak_keys=None, allowed=True):
        url = f"http://{service.host}/keys" if leak_keys is None else leak_keys
        network = NetworkPolicy(frozenset({service.host}) if allowed else frozenset())
        return replace(hub, settings=replace(hub.settings, leak_keys=url, network=network))

    return make


@pytest.fixture
def send(open_hub, service):
    """`send(raw)` sends a body with its signature to a hub that believes the service."""
    with TestClient(intake_app(open_hub()), raise_server_exceptions=False) as client:

        def post(raw, headers=None, path="/api/v1/leaks"):
            return client.post(path, content=raw, headers=headers or service.headers(raw))

        post.client = client
        yield post


def finds(*tokens, **more):
    item = {"type": "keyturn_key", "url": "https://git.example/a/b", "source": "commit", **more}
    return json.dumps([{**item, "token": token} for token in tokens]).encode()


def works(hub, value):
    return IssuedBook(hub.store, hub.roots).look(value).accepted


def test_a_signed_report_stops_what_leaked(hub, key, send, service):
    """Refused when the call returns, replaced by a run; each find is told true or false by its hash, in order, and no
    value comes back."""
    value, stranger = key()["AccessKey"], passwords.token("k")
    answer = send(finds(value, stranger, "ghp_0123456789abcdefghij"))
    assert answer.status_code == 200
    assert answer.json() == [
        {
            "token_hash": hashlib.sha256(token.encode()).hexdigest(),
            "token_type": "keyturn_key",
            "label": label,
        }
        for token, label in (
            (value, "true_positive"),
            (stranger, "false_positive"),
            ("ghp_0123456789abcdefghij", "false_positive"),
        )
    ]
    assert value not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert not works(hub, value)
    leak = leaks.latest(hub)[0]
    assert (leak.source, leak.url, leak.reported_by) == (
        "commit",
        "https://git.example/a/b",
        "secret scanning (k1)",
    )
    wait_for(lambda: runs.recent(hub, "crm", 1)[0].ended_at)
    assert service.asked == 1


def test_the_same_report_again_is_harmless(hub, key, send, service):
    """Whoever kept a signed report and sends it again gets the same answer, starts nothing and ends nothing new."""
    value = key()["AccessKey"]
    raw = finds(value)
    headers = service.headers(raw)
    first = send(raw, headers).json()
    wait_for(lambda: runs.recent(hub, "crm", 1)[0].ended_at)
    fresh = issued.reissue(hub, "crm", 3600).value.reveal()
    before = len(runs.recent(hub, "crm"))
    assert send(raw, headers).json() == first
    assert len(runs.recent(hub, "crm")) == before
    assert len(leaks.latest(hub)) == 1
    assert works(hub, fresh)


def test_any_other_byte_is_another_body(hub, key, send, service):
    """A space, another token, the same JSON written anew, nothing at all: refused, and nothing of it is read."""
    value = key()["AccessKey"]
    raw = finds(value)
    headers = service.headers(raw)
    other = service.headers(finds(passwords.token("k")))
    anew = json.dumps(json.loads(raw), indent=1).encode()
    for body, said in ((raw + b" ", headers), (anew, headers), (b"", headers), (raw, other)):
        is_problem(send(body, said), 401, "leak.signature")
    assert works(hub, value)
    assert leaks.latest(hub) == []


@pytest.mark.parametrize("signature", ["", "!", "AAAA", b"\xc3\xa9", "QUFB" * 2000])
def test_what_is_no_signature(hub, key, send, service, signature):
    value = key()["AccessKey"]
    raw = finds(value)
    is_problem(send(raw, service.headers(raw, signature=signature)), 401, "leak.signature")
    half = service.headers(raw)
    del half["Github-Public-Key-Signature" if signature else "Github-Public-Key-Identifier"]
    is_problem(send(raw, half), 401, "leak.signature")
    assert works(hub, value)


def test_another_kind_of_key_signs_nothing(hub, key, send, service):
    """Listed keys of RSA, Ed25519 and another curve, and another hash: what each signs is valid in its own way, and not
    believed."""
    value = key()["AccessKey"]
    raw = finds(value)
    rsa_key = rsa.generate_private_key(65537, 2048)
    ed_key, wide = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())
    service.listed.update(
        rsa=pem(rsa_key), ed=pem(ed_key), p384=pem(wide), none="", junk="-----BEGIN PUBLIC KEY-----"
    )
    made = {
        "rsa": rsa_key.sign(raw, padding.PKCS1v15(), SHA256()),
        "ed": ed_key.sign(raw),
        "p384": wide.sign(raw, ec.ECDSA(SHA256())),
        "none": b"\x30\x06\x02\x01\x00\x02\x01\x00",
        "junk": b"\x30\x06\x02\x01\x01\x02\x01\x01",
        "k1": service.key.sign(raw, ec.ECDSA(SHA1())),
    }
    for key_id, signature in made.items():
        headers = service.headers(raw, key_id, base64.b64encode(signature).decode())
        is_problem(send(raw, headers), 401, "leak.signature")
    headers = service.headers(raw, "k1", base64.b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode())
    is_problem(send(raw, headers), 401, "leak.signature")
    assert works(hub, value)


def test_an_unknown_key_is_looked_for_once_a_minute(hub, key, send, service, monkeypatch):
    """A made-up id makes us ask once; a key the service made since is found by the next look."""
    value = key()["AccessKey"]
    raw = finds(value)
    send(finds("x"))
    for n in range(5):
        is_problem(send(raw, service.headers(raw, f"made-up-{n}")), 401, "leak.unknown_key")
    assert service.asked == 1
    fresh = ec.generate_private_key(ec.SECP256R1())
    service.listed = {"k2": pem(fresh)}
    headers = service.headers(raw, "k2", service.sign(raw, fresh))
    is_problem(send(raw, headers), 401, "leak.unknown_key")
    monkeypatch.setattr(signed_reports, "_AGAIN_S", 0.0)
    assert send(raw, headers).status_code == 200
    assert service.asked == 2
    is_problem(send(raw), 401, "leak.unknown_key")
    assert not works(hub, value)


def test_guessing_is_limited_by_address(send, service):
    """Like any other failed attempt; a good report still gets in."""
    raw = finds("x")
    codes = [send(raw, service.headers(raw, "no")).status_code for _ in range(22)]
    assert (codes[0], codes[-1]) == (401, 429)
    assert send(raw).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"),
        (404, b'{"public_keys": []}'),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"public_keys": {}}'),
        (200, b"x" * 300_000),
    ],
)
def test_without_keys_nobody_is_believed(hub, key, send, service, answer):
    """An ill service: 503 and nothing read; asked once a minute at most."""
    value = key()["AccessKey"]
    service.answer = answer
    raw = finds(value)
    for _ in range(3):
        assert is_problem(send(raw), 503, "leak.no_keys").headers["retry-after"] == "60"
    assert service.asked == 1
    assert works(hub, value)


def test_a_list_with_junk_in_it_still_serves(send, service):
    """What is no key of the list's form is left out."""
    junk = [None, 1, {}, {"key_identifier": 1, "key": 2}, {"key_identifier": "k1", "key": pem(service.key)}]
    service.answer = (200, json.dumps({"public_keys": junk}).encode())
    assert send(finds("x")).status_code == 200


def test_keys_are_fetched_through_the_guard(open_hub, service, key, hub):
    """A private or plain address that the operator did not open is not called, whatever the setting says."""
    raw = finds(key()["AccessKey"])
    with TestClient(intake_app(open_hub(allowed=False)), raise_server_exceptions=False) as client:
        answer = client.post("/api/v1/leaks", content=raw, headers=service.headers(raw))
        assert service.host not in is_problem(answer, 503, "leak.no_keys").text
    assert service.asked == 0


def test_nobody_is_believed_without_the_setting(open_hub, service, key, hub):
    """Off by default; the form with a credential works as before, and a credential does not save a signed one."""
    value, reporter = key()["AccessKey"], key("leaks:write", "scanner")
    raw = finds(value)
    with TestClient(intake_app(open_hub(leak_keys="")), raise_server_exceptions=False) as client:
        said = service.headers(raw)
        assert is_problem(
            client.post("/api/v1/leaks", content=raw, headers=said), 403, "leak.signed_off"
        ).json()["hint"]
        is_problem(
            client.post("/api/v1/leaks", content=raw, headers={**said, **reporter}), 403, "leak.signed_off"
        )
        assert works(hub, value)
        plain = {**reporter, "Content-Type": "application/json"}
        answer = client.post("/api/v1/leaks", content=raw, headers=plain)
        assert answer.json()["items"][0]["label"] == "true_positive"
    assert service.asked == 0
    assert not works(hub, value)


def test_a_credential_does_not_mend_a_bad_signature(send, service, key, hub):
    """Whoever may report with a credential leaves the signature out."""
    value, reporter = key()["AccessKey"], key("leaks:write", "scanner")
    raw = finds(value)
    is_problem(send(raw, {**service.headers(raw + b" "), **reporter}), 401, "leak.signature")
    assert works(hub, value)


def test_what_is_not_signed_says_nothing(send, service, key, hub):
    """`dry_run` in the address would turn a real report into a harmless one."""
    value = key()["AccessKey"]
    raw = finds(value)
    is_problem(send(raw, service.headers(raw), "/api/v1/leaks?dry_run=true"), 422, "invalid_input")
    assert works(hub, value)


def test_a_huge_body_is_413(send, service):
    """Before its signature is looked at."""
    raw = b"[" + b" " * (1024 * 1024) + b"]"
    is_problem(send(raw), 413, "too_large")
    assert service.asked == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"type":"x"}]',
        b'[{"token":"x","type":1}]',
        b'[{"token":"x","type":"a\\nb"}]',
        b"\xff",
        b"[" * 100_000,
        json.dumps([{"token": "x"}] * 1001).encode(),
    ],
)
def test_a_signed_body_of_another_form(send, raw):
    """Its signature is good, and it says nothing we know."""
    is_problem(send(raw), 422, "invalid_input")


def test_odd_values_are_false_positives(send, service):
    """Half a character, a very long one; and the type that is repeated holds no credential."""
    assert send(b'[{"token":"\\ud800 half","type":"t"}]').json()[0]["label"] == "false_positive"
    assert send(finds("k" * 500_000)).json()[0]["label"] == "false_positive"
    is_problem(send(finds("x", type=passwords.token("k"))), 422, "invalid_input")


def test_where_it_was_found_cannot_keep_it_alive(send, key, hub):
    """A place too long to keep, or with the value in it, is cut or left out; what leaked is stopped all the same."""
    first, second = key()["AccessKey"], key(name="erp")["AccessKey"]
    assert send(finds(first, url="https://git.example/" + "a" * 900)).status_code == 200
    assert send(finds(second, url=f"https://git.example/{second}")).status_code == 200
    assert not works(hub, first)
    assert not works(hub, second)
    kept = {each.url for each in leaks.latest(hub)}
    assert kept == {("https://git.example/" + "a" * 900)[:200], ""}


def test_the_example_that_the_service_publishes(send, service):
    """Its documented body and signature are of a key we do not have here: well formed, and refused."""
    raw, signature = PUBLISHED
    is_problem(send(raw, service.headers(raw, "k1", signature)), 401, "leak.signature")


def test_only_p256_with_sha256_is_a_signature():
    """By hand, below HTTP."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = key.sign(b"x", ec.ECDSA(SHA256()))
    assert ecdsa.is_signed(b"x", made, pem(key))
    assert not ecdsa.is_signed(b"y", made, pem(key))
    assert not ecdsa.is_signed(b"x", made[:-1], pem(key))
    assert not ecdsa.is_signed(b"x", made + b"\0", pem(key))
    assert not ecdsa.is_signed(b"x", made, "no key")


@pytest.mark.parametrize(
    "text", ["ftp://x.example/", "keys", "https://", "https://user@x.example/", "https://[x"]
)
def test_an_address_of_keys_that_is_none(text):
    """Named when the hub starts."""
    with pytest.raises(InvalidInput) as caught:
        Settings.read({"KEYTURN_LEAK_KEYS_URL": text})
    assert caught.value.facts["field"] == "KEYTURN_LEAK_KEYS_URL"
    assert Settings.read({}).leak_keys == ""
