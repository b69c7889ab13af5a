"""Who is told: notices from looks, signed webhooks over a real server, mails over a real SMTP conversation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socketserver
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.api.managing.conftest import LOCAL, is_problem
from tests.waiting import wait_for

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.executor.executor import Executor
from keyturn.model.plan import Goal
from keyturn.model.post import Post
from keyturn.model.run import TERMINAL
from keyturn.operations import debts, events, notices, projects, runs
from keyturn.operations.notices import sign
from keyturn.storage import notices as rows
from keyturn.transport import mail

ALL = list(notices.TOPICS)


class Receiver(ThreadingHTTPServer):
    """A webhook's other end: keeps what came, answers what it is told to."""

    daemon_threads = True

    def __init__(self):
        self.got, self.answers = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append((dict(self.headers.items()), body))
                status, more = outer.answers.pop(0) if outer.answers else (204, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def open_network(idle):
    """The operator lets the loopback interface be called."""
    object.__setattr__(idle.settings, "network", NetworkPolicy(frozenset({"127.0.0.1"})))
    return idle


def verified(secret, headers, body):
    """The receiver's own check, written from the specification and not from the product."""
    low = {k.lower(): v for k, v in headers.items()}
    signed = f"{low['webhook-id']}.{low['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert abs(time.time() - int(low["webhook-timestamp"])) < 300
    return any(
        version == "v1" and hmac.compare_digest(value, wanted)
        for version, _, value in (each.partition(",") for each in low["webhook-signature"].split())
    )


def finish(hub, name="orders", goal=Goal.ROTATE):
    """A run advanced to its end in this thread."""
    run = runs.start(hub, name, goal)
    until = time.monotonic() + 20
    while (found := runs.get(hub, run.id)).state not in TERMINAL and time.monotonic() < until:
        Executor(hub.hub).advance(run.id)
        time.sleep(0.01)
    return found


def topics(hub, since=0):
    return [n.topic for n in notices.after(hub, since, None, 1000)[0]]


# -- looking -----------------------------------------------------------------------------------------------------------


def test_the_first_look_only_remembers(idle, connect):
    """A hub with a past does not tell it when somebody starts to listen."""
    connect()
    finish(idle)
    assert notices.look(idle) == 0
    assert notices.look(idle) == 0
    finish(idle)
    assert notices.look(idle) == 1
    assert topics(idle) == ["run.done"]


def test_each_change_once(idle, connect):
    """However often is looked, and by however many."""
    connect()
    notices.look(idle)
    run = runs.start(idle, "orders", Goal.ROTATE)
    threads = [threading.Thread(target=notices.look, args=(idle,)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found, _ = notices.after(idle, 0, None)
    assert [(n.number, n.topic, n.subject) for n in found] == [(1, "run.changed", run.id)]
    runs.cancel(idle, run.id)
    notices.look(idle)
    assert topics(idle) == ["run.changed", "run.done"]


def test_a_run_that_began_and_ended_between_two_looks(idle, connect):
    """Its end is told, even when nobody looked for long."""
    connect()
    notices.look(idle)
    run = finish(idle)
    assert notices.look(idle) == 1
    found, _ = notices.after(idle, 0, None)
    assert (found[0].subject, found[0].facts["state"]) == (run.id, "complete")


def test_tasks_debts_and_their_ends(idle, connect, vendor):
    """Somebody should do something; somebody does; something is owed, and paid."""
    connect(method="supplied", name="paste")
    notices.look(idle)
    run = runs.start(idle, "paste", Goal.ROTATE)
    for _ in range(5):
        Executor(idle.hub).advance(run.id)
    notices.look(idle)
    assert "task.waiting" in topics(idle)
    idle.store.write(
        lambda tx: tx.run(
            "INSERT INTO debt VALUES ('dbt_x', ?, NULL, '', 'unproven', 'why', '{}', 'kim', 0, 0, ?, NULL, '', '')",
            run.connection_id,
            time.time(),
        )
    )
    notices.look(idle)
    debts.close(idle, "dbt_x", "deleted by hand")
    runs.cancel(idle, run.id)
    notices.look(idle)
    said = topics(idle)
    assert said.count("debt.open") == said.count("debt.closed") == 1
    assert said[-3:] == ["run.done", "task.changed", "debt.closed"]


def test_dates_that_come_nearer(idle, connect):
    """Due and expiring are told once for each step nearer, and anew for the next credential; a lost authorization too."""
    found = connect()
    notices.look(idle)
    now = time.time()

    def at(expires_s, age_days=0.0):
        idle.store.write(
            lambda tx: tx.run(
                "UPDATE version SET expires_at = ?, born_at = ? WHERE connection_id = ?",
                now + expires_s,
                now - age_days * 86400,
                found.id,
            )
        )
        notices.look(idle)

    for expires_s in (40 * 86400, 20 * 86400, 19 * 86400, 3 * 86400, 3600, -5):
        at(expires_s)
    assert topics(idle) == ["credential.expiring"] * 4
    at(400 * 86400, age_days=85)
    at(400 * 86400, age_days=91)
    at(400 * 86400, age_days=92)
    assert topics(idle)[4:] == ["credential.due"] * 2
    idle.store.write(lambda tx: tx.run("UPDATE version SET number = 7 WHERE connection_id = ?", found.id))
    at(400 * 86400, age_days=92)
    assert topics(idle)[6:] == ["credential.due"]
    idle.store.write(lambda tx: tx.run("UPDATE connection SET state = 'needs_reauth'"))
    notices.look(idle)
    notices.look(idle)
    assert topics(idle)[7:] == ["connection.broken"]
    idle.store.write(lambda tx: tx.run("UPDATE connection SET state = 'active'"))
    notices.look(idle)
    assert topics(idle)[8:] == []


def test_a_leak_is_told_with_what_reports_it(idle, connect):
    """In the same commit, or not at all."""
    found = connect()
    notices.look(idle)

    def failing(tx):
        notices.tell(tx, "leak.found", found.id, "lek_1", {"connection": "orders"})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        idle.store.write(failing)
    assert topics(idle) == []
    idle.store.write(lambda tx: notices.tell(tx, "leak.found", found.id, "lek_1", {"connection": "orders"}))
    assert topics(idle) == ["leak.found"]
    with pytest.raises(ValueError, match="no topic"):
        idle.store.write(lambda tx: notices.tell(tx, "else", found.id, "x", {}))


def test_old_ones_are_forgotten(idle, connect, monkeypatch):
    """A month later, and not before their deliveries are over."""
    connect()
    notices.look(idle)
    finish(idle)
    notices.look(idle)
    notices.tidy(idle)
    assert topics(idle) == ["run.done"]
    monkeypatch.setattr(notices, "KEPT_S", -1.0)
    notices.tidy(idle)
    assert topics(idle) == []
    assert not notices.is_kept(idle, 0)
    assert notices.is_kept(idle, 1)


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_the_signature_of_the_specification():
    """The vector that the reference libraries carry.

    Source: https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries, checked 2026-11-23.
    """
    made = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def hook(hub, receiver, topics=ALL, name="ops", project=""):
    return notices.add_recipient(hub, LOCAL, "webhook", name, receiver.url, topics, project)


def test_a_webhook_is_signed_and_delivered_once(open_network, connect, receiver):
    """Its receiver can check it; a second worker delivers nothing twice."""
    hub = open_network
    connect()
    notices.look(hub)
    to, secret = hook(hub, receiver)
    run = finish(hub)
    notices.look(hub)
    threads = [threading.Thread(target=notices.deliver, args=(hub,)) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ((headers, body),) = receiver.got
    assert verified(secret.reveal(), headers, body)
    assert not verified(secret.reveal(), headers, body.replace(b"complete", b"aborted!"))
    said = json.loads(body)
    assert (said["type"], said["data"]["run"], said["data"]["state"]) == ("run.done", run.id, "complete")
    ((delivery, topic),) = notices.deliveries(hub, to.id)
    assert (delivery.state, delivery.said, topic) == ("done", "204", "run.done")
    assert notices.deliver(hub) == 0


def test_failures_are_tried_again_under_the_same_id(open_network, connect, receiver):
    """Back-off, the receiver's own wish, and an end."""
    hub = open_network
    connect()
    notices.look(hub)
    to, _ = hook(hub, receiver)
    finish(hub)
    notices.look(hub)
    receiver.answers = [(500, {}), (302, {"Location": "http://127.0.0.1:1/"}), (429, {"Retry-After": "77"})]
    pauses = []
    for _ in range(3):
        notices.deliver(hub)
        delivery = notices.deliveries(hub, to.id)[0][0]
        pauses.append(delivery.due_at - time.time())
        hub.store.write(lambda tx: tx.run("UPDATE delivery SET due_at = 1"))
    assert 0.05 < pauses[0] < 0.13  # five seconds, at this hub's patience of 0.02
    assert 5.9 < pauses[1] < 7.3
    assert 70 < pauses[2] <= 77
    notices.deliver(hub)
    assert notices.deliveries(hub, to.id)[0][0].state == "done"
    assert len({h["webhook-id"] for h, _ in receiver.got}) == 1
    assert len(receiver.got) == 4


def test_given_up_and_made_due_again(open_network, connect, receiver):
    """After the last step of the ladder; somebody may have it tried once more."""
    hub = open_network
    connect()
    notices.look(hub)
    to, _ = hook(hub, receiver)
    finish(hub)
    notices.look(hub)
    receiver.answers = [(500, {})] * 10
    for _ in range(11):
        hub.store.write(lambda tx: tx.run("UPDATE delivery SET due_at = 1 WHERE due_at IS NOT NULL"))
        notices.deliver(hub)
    found = notices.deliveries(hub, to.id)[0][0]
    assert (found.state, found.tries, len(receiver.got)) == ("given_up", 10, 10)
    notices.try_again(hub, LOCAL, to.id, found.id)
    notices.deliver(hub)
    assert notices.deliveries(hub, to.id)[0][0].state == "done"
    with pytest.raises(NotFound):
        notices.try_again(hub, LOCAL, to.id, found.id)


def test_a_crash_in_an_attempt_means_one_more(open_network, connect, receiver):
    """Claimed and never settled: due again when the claim runs out."""
    hub = open_network
    connect()
    notices.look(hub)
    to, _ = hook(hub, receiver)
    finish(hub)
    notices.look(hub)
    (due,) = hub.store.read(lambda tx: rows.due(tx, time.time(), 5))
    assert hub.store.write(lambda tx: rows.claim(tx, due, time.time() + 60))
    assert not hub.store.write(lambda tx: rows.claim(tx, due, time.time() + 60))
    assert notices.deliver(hub) == 0
    hub.store.write(lambda tx: tx.run("UPDATE delivery SET due_at = 1"))
    assert notices.deliver(hub) == 1
    assert notices.deliveries(hub, to.id)[0][0].state == "done"


def test_410_pauses_it(open_network, connect, receiver):
    """Nobody listens there any more; that is on record."""
    hub = open_network
    connect()
    notices.look(hub)
    to, _ = hook(hub, receiver)
    finish(hub)
    notices.look(hub)
    receiver.answers = [(410, {})]
    notices.deliver(hub)
    assert notices.recipient(hub, to.id).paused_at
    assert events.latest(hub)[0].facts["decision"] == "recipient_paused"
    hub.store.write(lambda tx: tx.run("UPDATE delivery SET due_at = 1"))
    assert notices.deliver(hub) == 0
    finish(hub)
    notices.look(hub)
    assert len(notices.deliveries(hub, to.id)) == 1
    notices.change_recipient(hub, LOCAL, to.id, paused=False)
    assert notices.deliver(hub) == 1


def test_a_new_secret_overlaps_for_a_day(open_network, connect, receiver, monkeypatch):
    """Both signatures at first, the new one alone afterwards."""
    hub = open_network
    connect()
    notices.look(hub)
    to, old = hook(hub, receiver)
    new = notices.new_secret(hub, LOCAL, to.id)
    finish(hub)
    notices.look(hub)
    notices.deliver(hub)
    assert verified(old.reveal(), *receiver.got[0])
    assert verified(new.reveal(), *receiver.got[0])
    later = time.time() + notices.OLD_SECRET_S + 1
    finish(hub)
    notices.look(hub)
    with monkeypatch.context() as patch:
        patch.setattr(notices.time, "time", lambda: later)
        body = notices._secrets(hub, to.id)
    assert [value for value, _ in body] == [new.reveal()]


def test_only_the_topics_and_the_project_asked_for(open_network, connect, receiver):
    """Nothing else is delivered."""
    hub = open_network
    connect(name="mine", project="billing")
    connect(name="other")
    notices.look(hub)
    hook(hub, receiver, ["run.done"], "billing", "billing")
    hook(hub, receiver, ["debt.open"], "debts")
    for name in ("other", "mine"):
        finish(hub, name)
    notices.look(hub)
    notices.deliver(hub)
    assert [json.loads(body)["data"]["connection"] for _, body in receiver.got] == ["mine"]
    assert projects.every(hub) == [("billing", 1)]


def test_addresses_that_must_not_be_called(idle, connect, receiver):
    """By the guard of every call: private, plain, with a password in it. Refused when it is made, and when it is called."""
    for address in (
        receiver.url,
        "http://hooks.example.com/x",
        "https://user:hunter2@hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://",
        "nonsense",
    ):
        with pytest.raises(InvalidInput) as caught:
            notices.add_recipient(idle, LOCAL, "webhook", "x", address, ALL)
        assert caught.value.facts["field"] == "address"
        assert "hunter2" not in caught.value.message
    connect()
    notices.look(idle)
    port = receiver.server_address[1]
    to, _ = notices.add_recipient(idle, LOCAL, "webhook", "x", f"https://127.0.0.1:{port}/", ALL)
    finish(idle)
    notices.look(idle)
    notices.deliver(idle)
    found = notices.deliveries(idle, to.id)[0][0]
    assert found.state == "waiting"
    assert "loopback" in found.said
    assert receiver.got == []


def test_no_secret_is_told_or_kept_in_clear(open_network, connect, receiver):
    """Not the signing secret in a table, not a credential in a body."""
    hub = open_network
    connect()
    notices.look(hub)
    _, secret = hook(hub, receiver)
    finish(hub)
    notices.look(hub)
    notices.deliver(hub)
    raw = base64.b64decode(secret.reveal().removeprefix("whsec_"))
    tables = ("recipient", "delivery", "notice", "noticed", "sealed", "journal")
    kept = hub.store.read(lambda tx: repr([tx.all(f"SELECT * FROM {t}") for t in tables]))
    assert secret.reveal() not in kept
    assert repr(raw)[2:-1] not in kept


# -- mail --------------------------------------------------------------------------------------------------------------


class Post587(socketserver.ThreadingTCPServer):
    """A mail server that insists on STARTTLS and a login, as the standard's conversation goes."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder):
        self.got, self.refuse = [], ""
        key, cert = folder / "key.pem", folder / "cert.pem"
        self.cert = cert
        _certificate(key, cert)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        super().__init__(("127.0.0.1", 0), _Conversation)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def _certificate(key, cert):
    """A certificate for the loopback address, which the test's own store trusts."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "post.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self._talk()
        finally:
            self.wfile.close()
            self.request.close()

    def _talk(self):
        server, is_tls, user, letter = self.server, False, "", {}
        self._say("220 post.test")
        while raw := self.rfile.readline():
            line = raw.decode().rstrip("\r\n")
            verb = line[:4].upper()
            if verb == "EHLO":
                more = ["AUTH PLAIN LOGIN"] if is_tls else ["STARTTLS"]
                for each in ["post.test", *more[:-1]]:
                    self._say(f"250-{each}")
                self._say(f"250 {more[-1]}")
            elif verb == "STAR":
                self._say("220 go on")
                self.request = server.context.wrap_socket(self.request, server_side=True)
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
                is_tls = True
            elif verb == "AUTH":
                user = base64.b64decode(line.split()[2]).decode()
                self._say("235 welcome" if user.endswith("right-pass") else "535 no")
            elif verb == "MAIL":
                self._say("250 ok" if is_tls and user else "530 not like this")
            elif verb == "RCPT":
                self._say(server.refuse or "250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                letter = []
                while (part := self.rfile.readline()) != b".\r\n":
                    letter.append(part)
                server.got.append(b"".join(letter).decode())
                self._say("250 accepted")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _say(self, line):
        self.wfile.write(line.encode() + b"\r\n")


@pytest.fixture
def post(tmp_path, monkeypatch):
    server = Post587(tmp_path)
    real = ssl.create_default_context
    monkeypatch.setattr(mail.ssl, "create_default_context", lambda: real(cafile=str(server.cert)))
    yield server
    server.shutdown()
    server.server_close()


def mailing(hub, server, password="right-pass"):
    sender = Post("127.0.0.1", server.server_address[1], "keyturn@hub.test", "starttls", "hub", password)
    object.__setattr__(hub.settings, "post", sender)
    return hub


def test_a_mail_over_starttls(idle, connect, post):
    """With a login, after TLS; in plain words, with a link, and the same id for the same mail."""
    hub = mailing(idle, post)
    connect()
    notices.look(hub)
    to, secret = notices.add_recipient(hub, LOCAL, "mail", "ops", "ops@example.com", ["run.done"])
    assert secret is None
    run = finish(hub)
    notices.look(hub)
    notices.deliver(hub)
    (letter,) = post.got
    delivery = notices.deliveries(hub, to.id)[0][0]
    assert delivery.state == "done", delivery.said
    assert "Subject: [keyturn] orders: a run has ended" in letter
    assert f"Message-ID: <{delivery.id}@hub.test>" in letter
    assert "Auto-Submitted: auto-generated" in letter
    assert f"/runs/{run.id}" in letter
    with pytest.raises(Conflict):
        notices.new_secret(hub, LOCAL, to.id)


def test_a_mail_server_that_refuses(idle, connect, post):
    """A wrong password, a full mailbox, an unknown one, no TLS: tried again, with what was said and no password."""
    hub = mailing(idle, post, "wrong-pass-8Jx")
    connect()
    notices.look(hub)
    to, _ = notices.add_recipient(hub, LOCAL, "mail", "ops", "ops@example.com", ["run.done"])
    finish(hub)
    notices.look(hub)
    said = []
    for refuse in ("", "452 full", "550 nobody"):
        if refuse:
            mailing(hub, post)
        post.refuse = refuse
        hub.store.write(lambda tx: tx.run("UPDATE delivery SET due_at = 1"))
        notices.deliver(hub)
        said.append(notices.deliveries(hub, to.id)[0][0].said)
    assert ["535" in said[0], "452" in said[1], "550" in said[2]] == [True, True, True]
    assert "8Jx" not in repr(said)
    assert post.got == []


def test_no_mail_without_a_server_or_to_what_is_no_address(idle, post):
    with pytest.raises(InvalidInput, match="sends no mail"):
        notices.add_recipient(idle, LOCAL, "mail", "ops", "ops@example.com", ["run.done"])
    mailing(idle, post)
    for address in ("ops", "ops@", "a@b\nBcc: eve@example.com", "@x.y", "ops@example"):
        with pytest.raises(InvalidInput):
            notices.add_recipient(idle, LOCAL, "mail", "ops", address, ["run.done"])


def test_names_from_elsewhere_stay_in_their_line(idle, connect, post):
    """A connection's name or a vendor's words cannot write headers."""
    hub = mailing(idle, post)
    found = connect()
    notices.look(hub)
    notices.add_recipient(hub, LOCAL, "mail", "ops", "ops@example.com", ["leak.found"])
    facts = {"connection": "x\r\nBcc: eve@example.com", "why": "a\nb"}
    hub.store.write(lambda tx: notices.tell(tx, "leak.found", found.id, "lek_1", facts))
    notices.deliver(hub)
    (letter,) = post.got
    head = letter.partition("\r\n\r\n")[0]
    assert "\nBcc:" not in head
    assert "Why: a b" in letter


# -- over the API ------------------------------------------------------------------------------------------------------


def test_recipients_over_the_api(client, token, open_network, connect, receiver):
    """Made, seen without its secret, changed, delivered to, dropped."""
    hub, headers = open_network, token("admin")
    connect()
    notices.look(hub)
    body = {"kind": "webhook", "name": "ops", "address": receiver.url, "topics": ["run.done"]}
    made = client.post("recipients", json=body, headers=headers)
    assert made.status_code == 201, made.text
    secret = made.json()["secret"]
    path = f"recipients/{made.json()['id']}"
    assert (
        secret not in client.get("recipients", headers=headers).text + client.get(path, headers=headers).text
    )
    is_problem(client.post("recipients", json=body, headers=headers), 409)
    is_problem(client.post("recipients", json={**body, "topics": ["x"]}, headers=headers), 422)
    run = finish(hub)
    wait_for(lambda: receiver.got)  # the server's own herald
    assert json.loads(receiver.got[0][1])["data"]["run"] == run.id
    wait_for(
        lambda: (
            [d["state"] for d in client.get(f"{path}/deliveries", headers=headers).json()["items"]]
            == ["done"]
        )
    )
    changed = client.patch(path, json={"topics": ["debt.open"], "paused": True}, headers=headers).json()
    assert (changed["topics"], bool(changed["paused"])) == (["debt.open"], True)
    assert client.post(f"{path}/secret", headers=headers).json()["secret"] != secret
    assert len(client.get("recipients/topics", headers=headers).json()["items"]) == len(notices.TOPICS)
    is_problem(client.post(f"{path}/deliveries/none/try", headers=headers), 404)
    assert client.delete(path, headers=headers).status_code == 204
    is_problem(client.get(path, headers=headers), 404)
    assert hub.secrets.find(f"recipient:{made.json()['id']}") is None
