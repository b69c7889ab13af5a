"""RSA key pairs for key-pair logins: made ahead by a pool, or read from what a person supplies."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import deque
from datetime import datetime
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate, CertificateBuilder, Name, random_serial_number

from keyturn.errors import InvalidInput
from keyturn.model.secret import Secret

MIN_BITS = 2048
_OPENSSL = "openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt"


class KeyPair:
    """An RSA key pair in the forms vendors ask for. Prints only its public fingerprint."""

    __slots__ = ("_key", "_spki")

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        self._spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def __repr__(self) -> str:
        return f"KeyPair({self.bits} bits, {self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyPair is not pickled: store it through the vault")

    @property
    def bits(self) -> int:
        """The size of the modulus."""
        return self._key.key_size

    @property
    def public_key(self) -> str:
        """The public key as base64 DER on one line, without PEM armour: Snowflake's RSA_PUBLIC_KEY takes exactly this."""
        return base64.b64encode(self._spki).decode()

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and base64 of the hash of the public key's DER, as Snowflake shows it in RSA_PUBLIC_KEY_FP."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self._spki).digest()).decode()

    @property
    def private_pem(self) -> Secret:
        """The private key as unencrypted PKCS#8 PEM."""
        return Secret(self._pem(NoEncryption()))

    @property
    def private_der(self) -> bytes:
        """The private key as unencrypted PKCS#8 DER, for drivers that take bytes."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def encrypted_pem(self, passphrase: str) -> Secret:
        """The private key as PKCS#8 PEM under a passphrase."""
        return Secret(self._pem(BestAvailableEncryption(passphrase.encode())))

    def sign(self, data: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 signature with SHA-256: RS256 in a JWT."""
        return self._key.sign(data, PKCS1v15(), SHA256())

    def sign_pss(self, data: bytes) -> bytes:
        """An RSASSA-PSS signature with SHA-256 and a salt of its length: PS256 in a JWT."""
        return self._key.sign(data, PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH), SHA256())

    def certify(self, subject: Name, starts: datetime, ends: datetime) -> Certificate:
        """An X.509 certificate over the public key, signed with the private one."""
        builder = CertificateBuilder(subject, subject, self._key.public_key(), random_serial_number())
        return builder.not_valid_before(starts).not_valid_after(ends).sign(self._key, SHA256())

    def _pem(self, encryption: NoEncryption | BestAvailableEncryption) -> str:
        text = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()
        _note(_digest(text))
        return text


def generate(bits: int = MIN_BITS) -> KeyPair:
    """A fresh pair: about 45 ms at 2048 bits, 400 ms at 4096, with the interpreter lock released."""
    if bits < MIN_BITS:
        raise InvalidInput(f"an RSA key has at least {MIN_BITS} bits", field="bits")
    return KeyPair(generate_private_key(65537, bits))


def load(
    pem: str,
    passphrase: str | None = None,
    *,
    field: str = "private_key",
    passphrase_field: str = "passphrase",  # noqa: S107 - the name of a form field
) -> KeyPair:
    """The pair in a PEM text: PKCS#8, encrypted or not, or the older PKCS#1.

    That the numbers in it are a key's takes 40 ms to find out at 2048 bits, 250 ms at 4096: each text is checked once.

    Raises: InvalidInput; `facts['field']` says whether the key or its passphrase is at fault.
    """
    text = pem.strip()
    if "\n" not in text:
        text = text.replace("\\n", "\n")  # pasted out of JSON
    _refuse_other_kinds(text, field)
    secret = passphrase.encode() if passphrase else None
    if "ENCRYPTED" not in text[:200]:  # a form may send a passphrase that an unencrypted key has no use for
        secret = None
    elif secret is None:
        raise InvalidInput(
            "the private key is encrypted", hint="Give its passphrase.", field=passphrase_field
        )
    digest = _digest(text)
    try:
        key = load_pem_private_key(
            text.encode("ascii", "replace"), secret, unsafe_skip_rsa_key_validation=digest in _CHECKED
        )
        _note(digest)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if secret is not None and not isinstance(error, UnsupportedAlgorithm):
            raise InvalidInput(
                "the private key does not open with this passphrase",
                hint="Check the passphrase; if it is right, the key text is damaged.",
                field=passphrase_field,
            ) from None
        raise InvalidInput(
            "the private key cannot be read",
            hint=f"Paste the whole PEM file. A new one: {_OPENSSL}",
            field=field,
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise InvalidInput("the private key is not RSA", hint=f"Make one with: {_OPENSSL}", field=field)
    if key.key_size < MIN_BITS:
        raise InvalidInput(
            f"the private key has {key.key_size} bits; {MIN_BITS} is the least",
            hint=f"Make one with: {_OPENSSL}",
            field=field,
        )
    return KeyPair(key)


_CHECKED: set[bytes] = set()  # digests of texts whose key was found sound, or made here


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("ascii", "replace")).digest()


def _note(digest: bytes) -> None:
    if len(_CHECKED) >= 10_000:
        _CHECKED.clear()
    _CHECKED.add(digest)


def _refuse_other_kinds(text: str, field: str) -> None:
    if "-----BEGIN PUBLIC KEY" in text or "-----BEGIN RSA PUBLIC KEY" in text or text.startswith("ssh-"):
        raise InvalidInput("this is the public key", hint="Paste the private key of the pair.", field=field)
    if "-----BEGIN CERTIFICATE" in text and "PRIVATE KEY" not in text:
        raise InvalidInput(
            "this is a certificate", hint="Paste the private key that belongs to it.", field=field
        )
    if "-----BEGIN OPENSSH PRIVATE KEY" in text:
        raise InvalidInput(
            "the private key is in OpenSSH's own format",
            hint="Convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY",
            field=field,
        )
    if "PRIVATE KEY-----" not in text:
        raise InvalidInput(
            "this is not a PEM private key",
            hint="A file with one starts with -----BEGIN PRIVATE KEY-----.",
            field=field,
        )


class KeyPool:
    """Key pairs made ahead in background threads: a rotation should not wait for 22 keys a second a core.

    Starts on the first `take` and fills only sizes that were asked for. Every pair is handed out once.
    """

    def __init__(self, size: int = 4, threads: int = 1) -> None:
        self._size = size
        self._threads = threads
        self._ready: dict[int, deque[KeyPair]] = {}
        self._changed = threading.Condition()
        self._workers: list[threading.Thread] = []
        self._stopped = False

    def take(self, bits: int = MIN_BITS) -> KeyPair:
        """A pair nobody else gets: from the pool, or made here and now when it is empty or stopped."""
        if bits < MIN_BITS:
            raise InvalidInput(f"an RSA key has at least {MIN_BITS} bits", field="bits")
        with self._changed:
            self._start()
            ready = self._ready.setdefault(bits, deque())
            pair = ready.popleft() if ready else None
            self._changed.notify_all()
        return pair or generate(bits)

    def ready(self, bits: int = MIN_BITS) -> int:
        """How many pairs of this size wait; for the status page."""
        with self._changed:
            return len(self._ready.get(bits, ()))

    def stop(self) -> None:
        """Ends the threads after the key each is making, and forgets unused pairs. Twice is harmless."""
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _start(self) -> None:
        if self._workers or self._stopped:
            return
        for number in range(self._threads):
            worker = threading.Thread(target=self._work, name=f"keyturn-rsa-{number}", daemon=True)
            self._workers.append(worker)
            worker.start()

    def _work(self) -> None:
        while (bits := self._next()) is not None:
            pair = generate(bits)
            with self._changed:
                if not self._stopped and len(self._ready[bits]) < self._size:
                    self._ready[bits].append(pair)
                    self._changed.notify_all()

    def _next(self) -> int | None:
        """The size that lacks pairs most; waits while none does. None: stop."""
        with self._changed:
            while not self._stopped:
                lacking = [
                    (len(ready), bits) for bits, ready in self._ready.items() if len(ready) < self._size
                ]
                if lacking:
                    return min(lacking)[1]
                self._changed.wait()
        return None
