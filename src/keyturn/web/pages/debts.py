"""Debts: what is still alive or unproven and why, trying again, and closing one on one's word."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import InvalidInput
from keyturn.operations import debts, runs, systems
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

PAGE = 50


def every(it: Visit) -> Response:
    """The open ones, oldest first."""
    many, found = debts.page(it.hub, it.projects(), after=it.place("debts"), limit=PAGE + 1)
    last = found[PAGE - 1][0] if len(found) > PAGE else None
    return it.render(
        "debts.html",
        found=found[:PAGE],
        many=many,
        next=it.behind("debts", [last.created_at, last.id]) if last else "",
    )


def one(it: Visit, debt_id: str) -> Response:
    """One debt."""
    return _one(it, debt_id)


def _one(it: Visit, debt_id: str, status: int = 200, wrong: str = "") -> Response:
    debt, connection, project = it.debt(debt_id)
    known, lines = systems.history(it.hub, connection.id, 500)
    title, todo = words.DEBTS.get(debt.kind, (debt.kind.replace("_", " "), ""))
    return it.render(
        "debt.html",
        status,
        debt=debt,
        connection=connection,
        title=title,
        todo=todo,
        last=debt.facts.get("last", ""),
        facts={k: v for k, v in debt.facts.items() if k not in {"last", "ref"} and v not in ("", None)},
        ref={k: v for k, v in dict(debt.facts.get("ref") or {}).items() if v and isinstance(v, str)},
        lines=[line for line in lines if line.facts.get("debt") == debt.id][::-1][:50],
        versions=words.versions(known),
        run=next((run for run in runs.recent(it.hub, connection.id, 50) if run.id == debt.run_id), None),
        may_try=debt.closed_at is None and it.may(Operation.DEBT_TRY, project),
        may_close=debt.closed_at is None and it.may(Operation.DEBT_CLOSE, project),
        wrong=wrong,
    )


def try_again(it: Visit, debt_id: str) -> Response:
    """One more attempt now; what came of it is said."""
    debt, connection, _ = it.debt(debt_id)
    paid = debt.closed_at is not None or debts.try_again(it.hub, debt)
    it.done(Operation.DEBT_TRY, connection.name, debt=debt.id)
    if paid:
        return it.redirect(f"/debts/{debt.id}", "It is paid: proven, and closed by the hub.")
    last = str(debts.get(it.hub, debt.id).facts.get("last", ""))
    return it.redirect(f"/debts/{debt.id}", f"Still owed: {last}." if last else "Still owed.", "warn")


def close(it: Visit, debt_id: str) -> Response:
    """Closes it on one's word, with the reason."""
    debt, connection, _ = it.debt(debt_id)
    why = " ".join(it.text("reason").split())[:1000]
    try:
        debts.close(it.hub, debt.id, why)
    except InvalidInput:
        return _one(it, debt_id, 422, "Say how you know. It goes into the audit trail with your name.")
    it.done(Operation.DEBT_CLOSE, connection.name, debt=debt.id)
    return it.redirect(f"/debts/{debt.id}", "Closed on your word, which is on record.")
