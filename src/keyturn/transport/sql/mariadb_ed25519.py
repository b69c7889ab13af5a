"""MariaDB's `ed25519` passwords: the public key a server stores, and the signature that logs in. Pure.

It is Ed25519 with the password itself where RFC 8032 has a 32-byte seed. A password of 32 bytes is such a seed, so the
usual case (those made here have 32 characters) is left to `cryptography`; any other length takes the reference
arithmetic below, which is not constant in time: it runs on our side only, on a password typed by a person, once a login.
Source: https://mariadb.com/kb/en/authentication-plugin-ed25519/, checked 2026-11-23.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_Point = tuple[int, int, int, int]  # extended coordinates


def stored(password: str) -> str:
    """What the server keeps: the public key as 43 characters of base64."""
    return base64.b64encode(_public(password.encode())).decode().rstrip("=")


def sign(password: bytes, message: bytes) -> bytes:
    """The 64 bytes that prove the password for one challenge."""
    if len(password) == 32:
        return Ed25519PrivateKey.from_private_bytes(password).sign(message)
    scalar, prefix = _expanded(password)
    public = _public(password)
    once = _number(hashlib.sha512(prefix + message).digest()) % _ORDER
    point = _packed(_times(once, _base()))
    challenge = _number(hashlib.sha512(point + public + message).digest()) % _ORDER
    return point + ((once + challenge * scalar) % _ORDER).to_bytes(32, "little")


def _public(password: bytes) -> bytes:
    if len(password) == 32:
        return Ed25519PrivateKey.from_private_bytes(password).public_key().public_bytes_raw()
    return _packed(_times(_expanded(password)[0], _base()))


def _expanded(password: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(password).digest()
    return _number(digest[:32]) & ((1 << 254) - 8) | (1 << 254), digest[32:]


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _base() -> _Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P)
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x & 1:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(scalar: int, point: _Point) -> _Point:
    found: _Point = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            found = _plus(found, point)
        point = _plus(point, point)
        scalar >>= 1
    return found


def _packed(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | ((x & 1) << 255)).to_bytes(32, "little")
