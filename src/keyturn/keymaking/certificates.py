"""X.509 certificates for logins by assertion: self-signed ones made here, or read from what a person supplies."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from keyturn.errors import InvalidInput
from keyturn.keymaking import rsa
from keyturn.model.secret import Secret

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_CLOCK_SKEW = timedelta(minutes=5)


class Certified:
    """A key pair and the certificate over it, in the forms vendors ask for. Prints only its thumbprint."""

    __slots__ = ("_certificate", "keys")

    def __init__(self, keys: rsa.KeyPair, certificate: x509.Certificate) -> None:
        self.keys = keys
        self._certificate = certificate

    def __repr__(self) -> str:
        return f"Certified({self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Certified is not pickled: store it through the vault")

    @property
    def der(self) -> bytes:
        """The certificate alone, which is public."""
        return self._certificate.public_bytes(Encoding.DER)

    @property
    def thumbprint(self) -> str:
        """The SHA-1 of the certificate in upper-case hex, as Microsoft's pages show it."""
        return self._certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303 - a name at the vendor, not a proof

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and the base64 of the certificate's hash."""
        return "SHA256:" + base64.b64encode(self._certificate.fingerprint(SHA256())).decode()

    @property
    def x5t(self) -> str:
        """The header parameter of RFC 7515 section 4.1.7."""
        return _b64url(self._certificate.fingerprint(SHA1()))  # noqa: S303 - the parameter is defined so

    @property
    def x5t_s256(self) -> str:
        """The header parameter of RFC 7515 section 4.1.8."""
        return _b64url(self._certificate.fingerprint(SHA256()))

    @property
    def starts_at(self) -> float:
        """Not before, in epoch seconds."""
        return self._certificate.not_valid_before_utc.timestamp()

    @property
    def ends_at(self) -> float:
        """Not after, in epoch seconds."""
        return self._certificate.not_valid_after_utc.timestamp()

    @property
    def subject(self) -> str:
        """The subject as text."""
        return self._certificate.subject.rfc4514_string()

    @property
    def pem(self) -> Secret:
        """Private key, then certificate, as one PEM text."""
        public = self._certificate.public_bytes(Encoding.PEM).decode()
        return Secret(self.keys.private_pem.reveal() + public)


def self_signed(keys: rsa.KeyPair, name: str, days: float) -> Certified:
    """A certificate over `keys` that nobody else vouches for; it starts a little in the past for slow clocks."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    return Certified(keys, keys.certify(subject, now - _CLOCK_SKEW, now + timedelta(days=days)))


def load(
    pem: str,
    passphrase: str | None = None,
    *,
    field: str = "certificate",
    passphrase_field: str = "passphrase",  # noqa: S107 - the name of a form field
) -> Certified:
    """Key and certificate from one PEM text, in any order; of several certificates the one over the key is taken.

    Raises: InvalidInput; `facts['field']` says what is at fault.
    """
    text = pem.strip()
    if "\n" not in text:
        text = text.replace("\\n", "\n")  # pasted out of JSON
    key = _KEY.search(text)
    found = _CERTIFICATE.findall(text)
    if key is None or not found:
        missing = "private key" if key is None else "certificate"
        raise InvalidInput(
            f"the file holds no {missing}",
            hint="Put the private key and the certificate into one PEM file, one after the other.",
            field=field,
        )
    keys = rsa.load(key.group(), passphrase, field=field, passphrase_field=passphrase_field)
    for each in found:
        try:
            certificate = x509.load_pem_x509_certificate(each.encode("ascii", "replace"))
            public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, AttributeError):
            raise InvalidInput(
                "the certificate cannot be read", hint="Paste the whole PEM file.", field=field
            ) from None
        if base64.b64encode(public).decode() == keys.public_key:
            return Certified(keys, certificate)
    raise InvalidInput(
        "the certificate belongs to another private key",
        hint="Give the pair that belongs together.",
        field=field,
    )


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
