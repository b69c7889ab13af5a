"""Certificates against the stand-in: rolled one by one where possible, and never at a stranger's cost."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from tests.connectors.dynamics.conftest import OWNED, There

from keyturn.connectors.dynamics import certificate, identity
from keyturn.connectors.dynamics.certificate import Certificates
from keyturn.connectors.dynamics.client import Session
from keyturn.connectors.dynamics.connector import capabilities
from keyturn.errors import Conflict, InvalidInput, OutcomeUnknown
from keyturn.keymaking.certificates import Certified
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict

CAN = capabilities("certificate", {})
KEYS = Certificates()


def _there(there: There) -> list[str]:
    return [each["thumbprint"] for each in there.now()["certificates"]]


def test_the_assertion_is_as_microsoft_documents_it(pairs: list[Certified]) -> None:
    """PS256, x5t#S256, the token address as audience, minutes of life, never twice the same; PyJWT agrees."""
    url, pair = "https://login.example/t/oauth2/v2.0/token", pairs[0]
    first, second = (identity.assertion(pair, "the-client", url) for _ in range(2))
    public = x509.load_der_x509_certificate(pair.der).public_key()
    claims = jwt.decode(first, public, algorithms=["PS256"], audience=url)
    header = jwt.get_unverified_header(first)
    assert (header["alg"], header["typ"]) == ("PS256", "JWT")
    assert (
        base64.urlsafe_b64decode(header["x5t#S256"] + "=").hex()
        == x509.load_der_x509_certificate(pair.der).fingerprint(identity.certificates.SHA256()).hex()
    )
    assert claims["iss"] == claims["sub"] == "the-client"
    assert 0 < claims["exp"] - time.time() <= 600
    assert claims["jti"] != jwt.decode(second, options={"verify_signature": False})["jti"]


def test_the_proof_is_as_microsoft_documents_it(pairs: list[Certified]) -> None:
    """RS256, the directory's own audience, the object id as issuer, ten minutes, no padding."""
    proof = identity.proof_of_possession(pairs[0], "the-object-id")
    public = x509.load_der_x509_certificate(pairs[0].der).public_key()
    audience = "00000002-0000-0000-c000-000000000000"
    claims = jwt.decode(proof, public, algorithms=["RS256"], audience=audience)
    assert claims["iss"] == "the-object-id"
    assert claims["exp"] - claims["nbf"] == 600
    assert "=" not in proof
    assert {"kid", "x5t"} <= set(jwt.get_unverified_header(proof))


def test_one_is_added_and_removed_without_the_list(there: There, pairs: list[Certified]) -> None:
    """With a current certificate on the application addKey and removeKey are used, and PATCH is not."""
    mine = there.add_certificate(pairs[0])
    there.add_certificate(pairs[1])
    access = there.access(mine)
    made = KEYS.make(access, Ref())
    for _ in range(2):
        KEYS.set(access, made.ref, made.material)
    assert _there(there) == [pairs[0].thumbprint, pairs[1].thumbprint, made.ref.id]
    assert CAN.verifier.verify(access, made.material).verdict is Verdict.ACCEPTED
    for _ in range(2):
        KEYS.revoke(access, made.ref, made.material)
    assert _there(there) == [pairs[0].thumbprint, pairs[1].thumbprint]
    assert CAN.verifier.verify(access, made.material).code == "AADSTS700027"
    assert "patch_application" not in there.ops()
    assert there.ops().count("add_key") == 1


@pytest.mark.parametrize("shown", [True, False])
def test_with_nothing_of_ours_left_the_list_is_written_with_every_stranger_in_it(
    there: There, pairs: list[Certified], shown: bool
) -> None:
    """Also where Graph hides the keys: an entry is sent back by its id, and ours is known by its thumbprint."""
    there.lab("settings", {"show_keys": shown})
    there.add_certificate(pairs[1])
    there.add_certificate(pairs[2])
    access = there.access(None)
    made = KEYS.make(access, Ref())
    for _ in range(2):
        KEYS.set(access, made.ref, made.material)
    assert _there(there) == [pairs[1].thumbprint, pairs[2].thumbprint, made.ref.id]
    assert there.ops().count("patch_application") == 1
    KEYS.revoke(access, made.ref, None)
    assert _there(there) == [pairs[1].thumbprint, pairs[2].thumbprint]


def test_an_expired_certificate_proves_nothing(there: There, pairs: list[Certified]) -> None:
    """Ours is on the application but past its end: the administrator writes the list instead."""
    old = identity.certificates.self_signed(pairs[0].keys, "old", 0.0)
    mine = there.add_certificate(old)
    there.add_certificate(pairs[1])
    access = there.access(mine)
    made = KEYS.make(access, Ref())
    KEYS.set(access, made.ref, made.material)
    assert "add_key" not in there.ops()
    assert _there(there) == [old.thumbprint, pairs[1].thumbprint, made.ref.id]


def test_a_list_that_changes_meanwhile_is_not_written(
    there: There, pairs: list[Certified], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger adds a certificate between our reads: nothing is changed, and it is said."""
    access = there.access(None)
    made = KEYS.make(access, Ref())
    look, looks = Certificates._look, []

    def with_company(self: Certificates, session: Session, token: str) -> Any:
        looks.append(1)
        if len(looks) == 2:
            there.add_certificate(pairs[1])
        return look(self, session, token)

    monkeypatch.setattr(Certificates, "_look", with_company)
    with pytest.raises(Conflict, match="somebody else"):
        KEYS.set(access, made.ref, made.material)
    assert _there(there) == [pairs[1].thumbprint]
    KEYS.set(access, made.ref, made.material)
    assert _there(there) == [pairs[1].thumbprint, made.ref.id]


def test_a_certificate_that_somebody_wrote_over_is_missed(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is read after it was written; without ours in it the outcome is unknown, and the same again mends it."""
    access = there.access(None)
    made = KEYS.make(access, Ref())
    replace = Certificates._replace

    def then_overwritten(self: Certificates, session: Session, token: str, *lists: Any) -> None:
        replace(self, session, token, *lists)
        replace(self, session, token, self._look(session, token)[1], [])

    with monkeypatch.context() as patch:
        patch.setattr(Certificates, "_replace", then_overwritten)
        with pytest.raises(OutcomeUnknown, match="not on the application"):
            KEYS.set(access, made.ref, made.material)
    KEYS.set(access, made.ref, made.material)
    assert _there(there) == [made.ref.id]


def test_a_lost_patch_is_unknown_and_safe_to_repeat(there: There) -> None:
    """The administrator's way, with the answer lost after its effect."""
    access = there.access(None)
    made = KEYS.make(access, Ref())
    there.arm("patch_application", "answer_lost")
    with pytest.raises(OutcomeUnknown):
        KEYS.set(access, made.ref, made.material)
    KEYS.set(access, made.ref, made.material)
    assert _there(there) == [made.ref.id]


def test_the_same_thumbprint_is_not_enough_where_the_key_is_shown(pairs: list[Certified]) -> None:
    """A stranger's entry that carries our thumbprint but another key is not taken for ours."""
    entry = {
        "keyId": "k",
        "key": base64.b64encode(pairs[1].der).decode(),
        "customKeyIdentifier": base64.b64encode(bytes.fromhex(pairs[0].thumbprint)).decode(),
    }
    assert certificate._entry_of([entry], certificate._ref(pairs[0])) is None
    hidden = {**entry, "key": None}
    assert certificate._entry_of([hidden], certificate._ref(pairs[0])) is hidden
    odd = {"keyId": "k", "key": None, "customKeyIdentifier": "not base64!"}
    assert certificate._remote(odd).ref.id == "k"


def test_it_rolls_itself_without_any_right_to_write(there: There, pairs: list[Certified]) -> None:
    """Rolling its own keys needs no permission, only the right to read itself."""
    there.change(roles=["Application.Read.All"])
    mine = there.add_certificate(pairs[0])
    access = there.access(mine, admin=False)
    made = KEYS.make(access, Ref())
    KEYS.set(access, made.ref, made.material)
    access = there.access(made.material, admin=False)
    KEYS.revoke(access, certificate._ref(pairs[0]), mine)
    assert _there(there) == [made.ref.id]


@pytest.mark.parametrize("allowed", [True, False])
def test_the_last_one_can_be_removed(there: There, pairs: list[Certified], allowed: bool) -> None:
    """Whether or not it may prove its own removal; where it may not, the list is written, and a stranger stays in it."""
    there.lab("settings", {"proves_own_removal": allowed})
    there.change(owners=[there.app["app_id"]], roles=[OWNED])
    mine = there.add_certificate(pairs[0])
    there.add_certificate(pairs[1])
    access = there.access(mine, admin=False)
    for _ in range(2):
        KEYS.revoke(access, certificate._ref(pairs[0]), mine)
    assert _there(there) == [pairs[1].thumbprint]
    assert ("patch_application" in there.ops()) is not allowed


def test_a_certificate_is_located_by_what_it_is(there: There, pairs: list[Certified]) -> None:
    """By thumbprint, with its end; one that is not there is refused; without the right to look it is believed."""
    mine = there.add_certificate(pairs[0])
    access = there.access(mine)
    ref = KEYS.locate(access, mine)
    assert (ref.id, ref.ends_at) == (pairs[0].thumbprint, pairs[0].ends_at)
    with pytest.raises(InvalidInput, match="no such certificate"):
        KEYS.locate(access, Material({"certificate": pairs[1].pem.reveal()}))
    assert KEYS.locate(there.access(mine, admin=False), mine) == ref


def test_an_administrator_may_use_a_certificate(there: There, pairs: list[Certified]) -> None:
    """Instead of a secret."""
    there.lab(
        "apps",
        {"app_id": there.rotator["app_id"], "certificate": base64.b64encode(pairs[2].der).decode()},
    )
    access = there.access(None)
    admin = {"admin_client_id": there.rotator["app_id"], "admin_certificate": pairs[2].pem.reveal()}
    signed = type(access)(access.settings, None, Material(admin), 10.0, access.network)
    assert KEYS.list(signed) == ()
