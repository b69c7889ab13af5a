"""The test of a definition as a `Verifier`: one fresh call, success rules, identity, and a class for every refusal."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.contract.values import Access
from keyturn.definitions import bogus
from keyturn.definitions.auth import Granted, OAuth
from keyturn.definitions.calls import Caller, Placed
from keyturn.definitions.classify import Refused, holds, value_holds
from keyturn.definitions.extraction import many, one
from keyturn.definitions.model import Condition, Definition, Extract
from keyturn.definitions.scopes import Values, complete, values
from keyturn.definitions.tokens import sign
from keyturn.errors import OutcomeUnknown, UnexpectedAnswer, VendorThrottled, VendorUnavailable
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, rejected, unknown
from keyturn.transport.http import Answer

_DEATH = frozenset({"credential_invalid", "reauth_required"})
_GOOD = (Condition(status_from=200, status_to=299),)


class Unclear(Exception):
    """The grant does not say which resource is meant."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class DeclaredVerifier:
    """Runs `test`, after `granted_resource` where a grant may reach several sites."""

    definition: Definition

    def verify(self, access: Access, material: Material) -> Probe:
        """Only a documented class of refusal becomes `rejected`; an access token is used as it is, never refreshed."""
        try:
            with complete():
                return self._probe(access, material)
        except Refused as refused:
            return _probe_of(refused)
        except Unclear as unclear:
            return unknown(unclear.code, unclear.detail)
        except VendorThrottled as throttled:
            return unknown("rate_limited", throttled.message, float(throttled.facts.get("wait_s", 0.0)))
        except (VendorUnavailable, OutcomeUnknown) as error:
            return unknown("unavailable", error.message)
        except UnexpectedAnswer as error:
            return unknown("unexpected_answer", error.message)

    def bogus(self, material: Material) -> Material:
        """The middle characters of the secret parts changed, shape kept."""
        return bogus.bogus(self.definition, material)

    def _probe(self, access: Access, material: Material) -> Probe:
        test = self.definition.test
        caller = Caller(self.definition, access)
        scopes = values(self.definition, access, material)
        placed = sign(caller, scopes)
        rights = granted(caller, scopes, placed)
        answer = caller.call(test.request, scopes, placed, test.success, "test")
        who = test.identity
        if who.rights is not None:
            rights = frozenset(many(who.rights, answer, scopes))
        identity = {"principal": _who(who.principal, answer, scopes, "principal") or "not told"}
        for name, source in (("tenant", who.tenant), ("principal_label", who.principal_label)):
            found = _who(source, answer, scopes, name)
            if found:
                identity[name] = found
        return Probe(Verdict.ACCEPTED, identity=identity, rights=rights)


def granted(caller: Caller, scopes: Values, placed: tuple[Placed, ...]) -> frozenset[str]:
    """Puts the one resource that is meant into `scopes`; the rights in it. Nothing where a grant has no resources.

    Raises: Unclear, and what a call raises.
    """
    auth = caller.definition.auth
    if not isinstance(auth, OAuth) or auth.granted is None:
        return frozenset()
    answer = caller.call(auth.granted.request, scopes, placed, _GOOD, "test")
    chosen, label, rights = _choose(auth.granted, answer, scopes)
    scopes["oauth"].update(resource_id=chosen, resource_label=label)
    return rights


def _who(source: Extract | None, answer: Answer, scopes: Values, what: str) -> str:
    return one(source, answer, scopes, what) if source is not None else ""


def _choose(granted: Granted, answer: Answer, scopes: Values) -> tuple[str, str, frozenset[str]]:
    """The resource this connection means, its label and the rights in it; rows of the same id are one resource."""
    body = answer.json()
    rows = [
        row for found in granted.list.select(body) for row in (found if isinstance(found, list) else [found])
    ]
    labels: dict[str, str] = {}
    rights: dict[str, set[str]] = {}
    for row in rows:
        ids = granted.id.select(row)
        if len(ids) != 1 or not isinstance(
            ids[0], str | int
        ):  # said first: what has none is no resource at all
            raise UnexpectedAnswer(f"{answer.host} listed a resource without an id", status=answer.status)
        if granted.where is not None and not _row_holds(granted.where, row, answer):
            continue
        key = str(ids[0])
        shown = granted.label.select(row) if granted.label is not None else []
        labels[key] = str(shown[0]) if shown else key
        found = granted.rights.select(row) if granted.rights is not None else []
        rights.setdefault(key, set()).update(str(r) for r in found)
    wanted = str(scopes["input"].get(granted.chosen_by, "")).rstrip("/") if granted.chosen_by else ""
    fitting = [k for k in labels if not wanted or wanted in {k, labels[k].rstrip("/")}]
    if len(fitting) == 1:
        return fitting[0], labels[fitting[0]], frozenset(rights[fitting[0]])
    if not labels:
        raise Unclear("resource_missing", "the grant reaches no site")
    listed = ", ".join(sorted(labels.values()))[:500]
    if not fitting:
        raise Unclear("resource_missing", f"the grant does not reach {wanted}; it reaches {listed}")
    raise Unclear(
        "resource_choice", f"the grant reaches several sites; set {granted.chosen_by or 'one'}: {listed}"
    )


def _row_holds(where: Condition, row: object, answer: Answer) -> bool:
    if where.json is not None:
        return value_holds(where.json, row)
    return holds(where, answer, "test")


def _probe_of(refused: Refused) -> Probe:
    """Only what may be taken as the credential's own death is `rejected`."""
    reading = refused.reading
    detail = f"{reading.detail()} (HTTP {reading.status})" if reading.message else reading.detail()
    if reading.kind in _DEATH or (reading.kind == "client_invalid" and refused.own_client):
        return rejected(reading.kind, detail)
    return unknown(reading.kind, detail, reading.wait_s)
