"""Where master keys come from: what is accepted, what is refused, and what the refusal tells."""

import base64
import os
import stat

import keyring
import keyring.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from moto import mock_aws

from keyturn import boundary
from keyturn.errors import (
    CallInsideTransaction,
    Conflict,
    InvalidInput,
    VaultSealed,
    VendorUnavailable,
)
from keyturn.transport import http
from keyturn.vault import files, sources
from keyturn.vault.envelope import Kek

KEY = bytes(range(32))


@pytest.fixture
def config(tmp_path):
    return str(tmp_path / "config")


def _source(setting, config, environ=None, database=None):
    return sources.parse(setting, environ=environ or {}, config_dir=config, database=database)


def test_file_round_trip(config):
    """A created key is private, reads back, and is never overwritten."""
    source = _source("file:kek", config)
    made = source.create()
    path = os.path.join(config, "kek")
    assert source.load() == (made,)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(config) == ["kek"]
    with pytest.raises(Conflict):
        source.create()
    assert source.load() == (made,)


def test_rotation_keeps_old_keys(config):
    """A new key comes first; an old one goes only when dropped, and the newest never."""
    source = _source("file:kek", config)
    first = source.create()
    second = source.add()
    assert source.load() == (second, first)
    with pytest.raises(Conflict):
        source.drop(second.id)
    source.drop(first.id)
    source.drop(first.id)
    assert source.load() == (second,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_file_open_to_others_is_refused(config, mode):
    """A key file that others may open is not used, and the fix is named."""
    source = _source("file:kek", config)
    source.create()
    os.chmod(os.path.join(config, "kek"), mode)
    with pytest.raises(VaultSealed) as caught:
        source.load()
    assert "chmod 600" in caught.value.hint


def test_missing_file(config):
    """A missing key file names the source and warns against making a new one."""
    with pytest.raises(VaultSealed, match="no master key at file:") as caught:
        _source("file:kek", config).load()
    assert "restore" in caught.value.hint
    assert caught.value.facts["source"].endswith("/kek")


def test_directory_instead_of_file(config):
    """A directory where the key should be is refused, not crashed on."""
    os.makedirs(os.path.join(config, "kek"))
    with pytest.raises(VaultSealed):
        _source("file:kek", config).load()


def test_key_inside_the_database_folder_is_refused(tmp_path):
    """The key may not lie where a copy of the database would take it along, links and dots included."""
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    database = str(data / "keyturn.db")
    for path in (f"{data}/kek", f"{data}/deep/kek", f"{tmp_path}/link/kek", f"{tmp_path}/x/../data/kek"):
        with pytest.raises(InvalidInput, match="inside the database's folder") as caught:
            _source(f"file:{path}", str(tmp_path), database=database)
        assert caught.value.facts["field"] == "KEYTURN_KEK"
    assert _source(f"file:{tmp_path}/database-kek", str(tmp_path), database=database)


def test_creation_race_has_one_winner(tmp_path):
    """Of two processes that create a key at once, the second is refused by the file system, not by a look before."""
    path = str(tmp_path / "kek")
    files.write_private(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        files.write_private(path, b"second", replace=False)
    assert files.read_private(path) == b"first"
    assert os.listdir(tmp_path) == ["kek"]


def test_interrupted_write_keeps_the_old_file(config, monkeypatch):
    """A crash before the rename leaves the old keys and no draft."""
    source = _source("file:kek", config)
    first = source.create()

    def crash(handle):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(VaultSealed, match="Input/output"):
            source.add()
    assert source.load() == (first,)
    assert os.listdir(config) == ["kek"]


def test_edited_label_is_noticed(config):
    """A key under another key's label is refused by name."""
    source = _source("file:kek", config)
    source.create()
    path = os.path.join(config, "kek")
    with open(path, "w") as file:
        file.write(f"kek_{'0' * 16} {base64.b64encode(KEY).decode()}\n")
    with pytest.raises(VaultSealed, match=Kek(KEY).id):
        source.load()


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) >= 8))
def test_environment_spellings(key):
    """A variable holds base64, base64url or hex, padded or not, stray spaces included."""
    plain = base64.b64encode(key).decode()
    for text in (
        plain,
        plain.rstrip("="),
        base64.urlsafe_b64encode(key).decode(),
        key.hex(),
        f" {key.hex().upper()}\n",
    ):
        assert _source("env:KEK", "/nowhere", {"KEK": text}).load() == (Kek(key),)


def test_environment_holds_several():
    """Keys in a variable are separated by commas, newest first; Keyturn cannot add one but says how."""
    new, old = bytes(range(32)), bytes(range(5, 37))
    source = _source("env:KEK", "/nowhere", {"KEK": f"{new.hex()},{old.hex()}"})
    assert source.load() == (Kek(new), Kek(old))
    with pytest.raises(InvalidInput, match="cannot write") as caught:
        source.add()
    assert "openssl rand" in caught.value.hint
    with pytest.raises(VaultSealed, match="env:KEK"):
        _source("env:KEK", "/nowhere").load()


@pytest.mark.parametrize("text", ["hunter2", "00" * 32, KEY.hex()[:-2], "ü" * 32, "A" * 44, "=", "kek_x y z"])
def test_bad_keys_are_refused_unseen(text):
    """A key of the wrong size, spelling or randomness is refused without being quoted."""
    with pytest.raises(VaultSealed) as caught:
        _source("env:KEK", "/nowhere", {"KEK": text}).load()
    assert text == "=" or text not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "file:",
        "env:",
        "keyring:x",
        "keyring:/x",
        "awskms:",
        "transit:",
        "vault:x",
        "transit:http://v/t#k",
    ],
)
def test_malformed_settings(setting, config):
    """A setting that names no source is bad input, with the forms that exist."""
    with pytest.raises(InvalidInput) as caught:
        _source(setting, config)
    assert caught.value.facts["field"] == "KEYTURN_KEK"


class _Ring(KeyringBackend):
    priority = 1

    def __init__(self):
        self.kept, self.locked = {}, False

    def get_password(self, service, username):
        if self.locked:
            raise keyring.errors.KeyringLocked("secret detail")
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password


def test_os_keyring():
    """Keys live in the OS keyring; a locked one is reported without its own words."""
    before, ring = keyring.get_keyring(), _Ring()
    keyring.set_keyring(ring)
    try:
        source = _source("keyring:keyturn/kek", "/nowhere")
        first = source.create()
        assert source.load() == (first,)
        assert source.load()[0] != source.add()
        assert len(source.load()) == 2
        ring.locked = True
        with pytest.raises(VaultSealed, match="KeyringLocked") as caught:
            source.load()
        assert "secret detail" not in str(caught.value)
    finally:
        keyring.set_keyring(before)


def test_aws_kms(config, monkeypatch):
    """KMS wraps the key: the file beside the configuration does not hold it, and a foreign KMS key refuses."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        kms = boto3.client("kms", region_name="eu-west-1")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        source = _source(f"awskms:{key}?region=eu-west-1", config)
        first, second = source.create(), source.add()
        assert source.load() == (second, first)
        with open(os.path.join(config, "kek.awskms")) as file:
            assert base64.b64encode(first.key).decode() not in file.read()
        with pytest.raises(VaultSealed, match="NotFoundException"):
            _source("awskms:00000000-0000-0000-0000-000000000000?region=eu-west-1", config).load()
        with boundary.transaction(), pytest.raises(CallInsideTransaction):
            source.load()


class _Transit:
    """Transit as its documentation describes it, behind our own transport door."""

    def __init__(self):
        self.kept, self.requests, self.status, self.lost = {}, [], 200, False

    def send(self, request, network):
        import json

        self.requests.append((request, network))
        if self.lost:
            raise VendorUnavailable("vault.example did not answer in time")
        if self.status != 200:
            return http.Answer(self.status, {}, b'{"errors":["permission denied: secret"]}', "vault.example")
        body = json.loads(request.body)
        if "plaintext" in body:
            name = f"vault:v1:{len(self.kept)}"
            self.kept[name] = body["plaintext"]
            data = {"ciphertext": name, "key_version": 1}
        else:
            data = {"plaintext": self.kept[body["ciphertext"]]}
        return http.Answer(200, {}, json.dumps({"data": data}).encode(), "vault.example")


@pytest.fixture
def transit(monkeypatch):
    fake = _Transit()
    monkeypatch.setattr(http, "send", fake.send)
    return fake


def test_transit(config, transit):
    """Transit wraps the key; the token travels in its header and the operator's address is opened, nothing else."""
    environ = {"VAULT_TOKEN": "s.token", "VAULT_NAMESPACE": "team"}
    source = _source("transit:https://vault.example:8200/keys/hub#keyturn", config, environ)
    first, second = source.create(), source.add()
    assert source.load() == (second, first)
    request, network = transit.requests[0]
    assert request.url == "https://vault.example:8200/v1/keys/hub/encrypt/keyturn"
    assert request.headers["X-Vault-Token"] == "s.token"
    assert request.headers["X-Vault-Namespace"] == "team"
    assert network.allowed_hosts == {"vault.example:8200"}
    with boundary.transaction(), pytest.raises(CallInsideTransaction):
        source.load()


def test_transit_refusals(config, transit):
    """Every way transit can refuse names the source and a fix, and quotes neither token nor answer."""
    environ = {"VAULT_TOKEN": "s.token"}
    source = _source("transit:https://vault.example/transit#keyturn", config, environ)
    source.create()
    for status, word in ((403, "refused"), (503, "sealed"), (404, "404"), (400, "400")):
        transit.status = status
        with pytest.raises(VaultSealed, match=word) as caught:
            source.load()
        assert caught.value.hint
        assert "secret" not in caught.value.message
        assert "s.token" not in caught.value.message
    transit.lost = True
    with pytest.raises(VaultSealed, match="did not answer"):
        source.load()
    environ.clear()
    with pytest.raises(VaultSealed, match="no token"):
        source.load()


def test_transit_token_file(config, transit, tmp_path):
    """An agent's token file is read anew and must be private."""
    token = tmp_path / "token"
    token.write_text("s.file\n")
    token.chmod(0o600)
    source = _source("transit:https://vault.example#k", config, {"VAULT_TOKEN_FILE": str(token)})
    source.create()
    assert transit.requests[0][0].headers["X-Vault-Token"] == "s.file"
    token.chmod(0o644)
    with pytest.raises(VaultSealed, match="others"):
        source.load()


def test_swapped_wrapped_key_is_noticed(config, transit):
    """A wrapped key that unwraps to another key than its label says is refused."""
    source = _source("transit:https://vault.example#k", config, {"VAULT_TOKEN": "t"})
    source.create()
    transit.kept["vault:v1:0"] = base64.b64encode(KEY).decode()
    with pytest.raises(VaultSealed, match="says kek_"):
        source.load()


def test_sources_print_no_secret(config):
    """No source prints a key or a token in its repr, although it holds the environment."""
    environ = {"KEK": KEY.hex(), "VAULT_TOKEN": "s.token"}
    for setting in ("env:KEK", "transit:https://vault.example#k"):
        shown = repr(_source(setting, config, environ))
        assert KEY.hex() not in shown
        assert "s.token" not in shown
