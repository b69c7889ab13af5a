"""One example of each shape, as the OpenAPI document shows them. A test holds each against its shape."""

from __future__ import annotations

from typing import Any

_AT, _LATER = "2026-11-23T10:00:00.000Z", "2027-02-21T10:00:00.000Z"
_CON, _RUN, _TSK, _DBT = (
    "con_06f0k3v9q1m7x2c8b4n5t6w0za",
    "run_06f0k41d2s9h8g7f6e5d4c3b2a",
    "tsk_06f0k42a1b2c3d4e5f6g7h8j9k",
    "dbt_06f0k43z9y8x7w6v5t4s3r2q1p",
)
_CARD = {"strategy": "S1", "gap_class": "Z0", "proof": "D2", "hands": "automatic"}

ROW: dict[str, Any] = {
    "system": "postgresql",
    "method": "password",
    "direction": "outbound",
    **_CARD,
    "title": "PostgreSQL: user name and password",
    "summary": "A role that logs in with a password.",
    "ends_on": "",
    "variants": [],
}
SYSTEM: dict[str, Any] = {
    "system": "postgresql",
    "title": "PostgreSQL",
    "summary": "A database server.",
    "docs": ["https://www.postgresql.org/docs/current/"],
    "methods": [
        {"system": "postgresql", "method": "password", "fields": [{"name": "host", "label": "Host"}]}
    ],
}
LINE: dict[str, Any] = {
    "id": _CON,
    "name": "orders-db",
    "system": "postgresql",
    "method": "password",
    "state": "active",
    "health": "good",
    "owner": "kim",
    "project": "billing",
    "version": 3,
    "since": _AT,
    "due": _LATER,
    "expires": None,
    "alive": [],
    "serving": "v3 serves",
    "generation": 3,
    "created_at": _AT,
    "run": "",
    "goal": "",
    "run_state": "",
    "debts": 0,
    "tasks": 0,
    "jobs": 2,
    "failing_jobs": 0,
}
VERSION: dict[str, Any] = {
    "number": 3,
    "state": "current",
    "provenance": "ours",
    "ref": {"slot": "orders_b"},
    "fingerprint": "fp_0123456789abcdef0123456789abcdef",
    "changed": _AT,
    "born": _AT,
    "expires": None,
}
CONSUMER: dict[str, Any] = {
    "name": "billing-job",
    "kind": "live",
    "ttl_s": 0,
    "required": True,
    "seen_generation": 3,
    "seen": _AT,
}
CONNECTION: dict[str, Any] = {
    **{
        k: LINE[k]
        for k in LINE
        if k
        not in {"health", "created_at", "run", "goal", "run_state", "debts", "tasks", "jobs", "failing_jobs"}
    },
    "title": "user name and password",
    **_CARD,
    "identity": {"principal": "orders_b", "tenant": "orders"},
    "settings": {"host": "db.example.com", "database": "orders"},
    "policy": {"max_age_days": 30},
    "definition": "",
    "created": _AT,
    "versions": [VERSION],
    "consumers": [CONSUMER],
    "validation": [],
    "jobs": [],
    "used_by": ["reporting / orders / nightly"],
}
CONNECT: dict[str, Any] = {
    "system": "postgresql",
    "method": "password",
    "name": "orders-db",
    "values": {"host": "db.example.com", "database": "orders", "user": "orders_app", "password": "..."},
    "owner": "kim",
    "policy": {"max_age_days": 30},
}
CHECKED: dict[str, Any] = {
    "system": "postgresql",
    "method": "password",
    "verdict": "accepted",
    "identity": {"principal": "orders_app", "tenant": "orders"},
    "rights": [],
    "negative_control": "refused",
    "detail": "",
}
CONNECTED: dict[str, Any] = {**CONNECTION, "verdict": "accepted", "negative_control": "refused"}
TESTED: dict[str, Any] = {
    "connection": "orders-db",
    "verdict": "accepted",
    "identity": {"principal": "orders_b", "tenant": "orders"},
}
FOUND: dict[str, Any] = {"name": "orders_b", "kind": "credential", "facts": {"active": True}}
JOURNAL: dict[str, Any] = {
    "connection_id": _CON,
    "number": 1,
    "at": _AT,
    "run_id": _RUN,
    "step": "start",
    "kind": "DECISION",
    "facts": {"decision": "started", "goal": "rotate", "by": "deployer"},
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
HISTORY: dict[str, Any] = {"versions": [VERSION], "journal": [JOURNAL]}
_STEP: dict[str, Any] = {
    "key": "prove",
    "kind": "prove",
    "title": "Log in with the new password",
    "who": "hub",
}
_FROZEN: dict[str, Any] = {
    "goal": "rotate",
    "system": "postgresql",
    "method": "password",
    "strategy": "S1",
    "gap_class": "Z0",
    "proof": "D2",
    "steps": [_STEP],
    "rollback": [],
    "warnings": [],
    "target_slot": "orders_a",
    "used_by": [],
    "risk": "",
    "accept": "",
}
PLAN: dict[str, Any] = {
    "connection": "orders-db",
    **_FROZEN,
    "point_of_no_return": 1,
    "approval": "",
    "digest": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
}
START: dict[str, Any] = {"reason": "quarterly"}
RUN_LINE: dict[str, Any] = {
    "id": _RUN,
    "connection": "orders-db",
    "connection_id": _CON,
    "goal": "rotate",
    "state": "running",
    "ended": False,
    "track": "forward",
    "cursor": 2,
    "proof": "",
    "strategy": "S1",
    "gap_class": "Z0",
    "seconds": 0.4,
    "waiting_for": "",
    "outcome": "",
    "reason": "quarterly",
    "attempts": 0,
    "due_at": _AT,
    "created_at": _AT,
    "started_at": _AT,
    "ended_at": None,
    "serving": "v3 serves",
    "alive": ["v3 current (orders_b)"],
    "tasks": [],
    "debts": [],
    "validation": [],
    "gap": None,
    "next": "",
}
RUN: dict[str, Any] = {
    **RUN_LINE,
    "plan": _FROZEN,
    "steps": [{"key": "prove", "title": "Log in with the new password", "who": "hub", "state": "now"}],
    "lines": [JOURNAL],
}
SEVERAL: dict[str, Any] = {
    "items": [{"connection": "orders-db", "run": _RUN}, {"connection": "dwh", "run": _RUN}],
    "started": 2,
    "failed": 0,
}
TASK: dict[str, Any] = {
    "id": _TSK,
    "connection": "roadmap",
    "run": _RUN,
    "kind": "supply",
    "state": "open",
    "title": "Create a new API key for roadmap",
    "why": "",
    "instructions": [{"text": "Open the profile and choose API keys."}],
    "fields": [{"name": "api_key", "label": "API key", "secret": True}],
    "claimed_by": "",
    "claimed_until": None,
    "created": _AT,
    "due": _LATER,
    "owner": "kim",
    "project": "product",
    "result": "",
    "said": "",
}
DEBT: dict[str, Any] = {
    "id": _DBT,
    "connection": "orders-db",
    "run": _RUN,
    "kind": "unproven",
    "why": "the old one could not be tested",
    "facts": {},
    "owner": "kim",
    "tries": 1,
    "created": _AT,
    "next_try": _LATER,
    "closed": None,
    "closed_by": "",
    "closed_why": "",
}
LEASE: dict[str, Any] = {
    "id": "lse_06f0k44b7c6d5e4f3g2h1j0k9m",
    "connection": "orders-db",
    "generation": 3,
    "version": 3,
    "values": {"user": "orders_b", "password": "..."},
    "other": None,
    "not_after": _LATER,
}
HOLDER: dict[str, Any] = {"id": LEASE["id"], "consumer": "etl", "version": 3, "taken": _AT, "until": _LATER}
SECRET: dict[str, Any] = {
    "version": "ver_06f0k45m2n3p4q5r6s7t8v9w0x",
    "slot": "A",
    "hint": "x7Qa",
    "state": "live",
    "created": _AT,
    "starts": None,
    "ends": None,
    "first_used": _AT,
    "last_used": _AT,
    "last_used_from": "203.0.113.7",
    "last_used_agent": "loader/1.4",
    "uses": 12,
}
ISSUED: dict[str, Any] = {
    "id": _CON,
    "name": "partner",
    "kind": "api-key",
    "state": "active",
    "owner": "kim",
    "client_id": "",
    "client_secret_expires_at": None,
    "settings": {"scopes": "read"},
    "secrets": [SECRET],
}
WHERE_USED: dict[str, Any] = {
    "name": "partner",
    "kind": "api-key",
    "holders": [
        {
            "name": "Acme",
            "contact": "ops@acme.example",
            "place": "their vault",
            "state": "confirmed",
            "owed": False,
            "changed": _AT,
            "by": "kim",
        }
    ],
    "callers": [
        {
            "slot": "A",
            "address": "203.0.113.7",
            "agent": "loader/1.4",
            "first": _AT,
            "last": _AT,
            "uses": 12,
        }
    ],
    "loads": [],
    "findings": ["slot A is 91 days old"],
}
HANDED: dict[str, Any] = {
    "name": "partner",
    "kind": "api-key",
    "version": SECRET["version"],
    "slot": "B",
    "client_id": "",
    "client_secret_expires_at": None,
    "value": "shown once",
    "until": _LATER,
    "run": _RUN,
}
DEFINITION: dict[str, Any] = {
    "hash": PLAN["digest"],
    "name": "billing",
    "added_at": _AT,
    "connections": ["crm"],
}
TEXT: dict[str, Any] = {"name": "billing.yaml", "text": "schema: rest-credential/v1\nid: billing\n"}
REPORT: dict[str, Any] = {
    "usable": False,
    "findings": [
        {
            "level": "refuse",
            "line": 1,
            "field": "verify",
            "message": "is missing",
            "fix": "Say how it is tested.",
        }
    ],
}
TODAY: dict[str, Any] = {
    "connections": 12,
    "quiet": False,
    "counts": {"tasks": 1, "overdue": 1, "debts": 1, "stuck": 0},
    "tasks": [_TSK],
    "stuck": [],
    "failed": [],
    "expired": [],
    "overdue": ["orders-db"],
    "expiring": [],
    "reauthorize": [],
    "debts": [_DBT],
    "running": [],
}
DOCTOR: dict[str, Any] = {
    "ok": True,
    "checks": [{"name": "clock", "state": "ok", "said": "2026-11-23 10:00:00 UTC", "fix": ""}],
}
TOKEN: dict[str, Any] = {
    "id": "tok_06f0k46s1t2v3w4x5y6z7a8b9c",
    "name": "ci",
    "scopes": ["operate", "read"],
    "hint": "Zp4c",
    "created": _AT,
    "created_by": "kim",
    "ends": _LATER,
    "ended": None,
    "used": _AT,
    "used_from": "203.0.113.7",
}
PERSON: dict[str, Any] = {
    "id": "acc_06f0k47d9e8f7g6h5j4k3m2n1p",
    "kind": "service",
    "login": "deployer",
    "name": "Deployer",
    "roles": [{"role": "operator", "project": "billing"}],
    "created": _AT,
    "disabled": None,
    "seen": None,
    "sessions": 0,
    "tokens": [TOKEN],
}
ROLES: list[dict[str, Any]] = [{"role": "operator", "project": "billing"}]
RECIPIENT: dict[str, Any] = {
    "id": "rcp_06f0k48q1r2s3t4v5w6x7y8z9a",
    "kind": "webhook",
    "name": "ops-channel",
    "address": "https://hooks.example.com/keyturn",
    "topics": ["run.done", "debt.open"],
    "project": "",
    "created": _AT,
    "created_by": "kim",
    "paused": None,
}
DELIVERY: dict[str, Any] = {
    "id": "dlv_06f0k49b2c3d4e5f6g7h8j9k0m",
    "notice": 17,
    "topic": "run.done",
    "state": "done",
    "tries": 1,
    "said": "204",
    "created": _AT,
    "next_try": None,
    "ended": _AT,
}


APPROVAL: dict[str, Any] = {
    "run": _RUN,
    "connection": "orders-db",
    "project": "billing",
    "owner": "kim",
    "goal": "disconnect",
    "kind": "approval",
    "rule": "disconnect",
    "asked_by": "deployer",
    "reason": "not used any more",
    "asked": _AT,
    "until": _LATER,
}


RESULT: dict[str, Any] = {
    "state": "passed",
    "count": 10,
    "seconds": 0.12,
    "code": "",
    "detail": "",
    "cause": "demand",
    "version": SECRET["version"],
    "run": "",
    "at": _AT,
}
JOB: dict[str, Any] = {
    "name": "nightly",
    "id": "job_06f0k51c2d3e4f5g6h7j8k9m0n",
    "connection": "orders-db",
    "reads": "orders",
    "most": 10,
    "schedule": "daily 03:00",
    "runs_after_rotation": True,
    "state": "active",
    "paused_by": "",
    "held": "",
    "last": RESULT,
    "due": _LATER,
    "created": _AT,
    "created_by": "kim",
}
SOURCE: dict[str, Any] = {
    "label": "reporting/orders/nightly",
    "project": "reporting",
    "object": "orders",
    "name": "nightly",
    "connection": "orders-db",
    "reads": "",
    "changed": _AT,
    "created_by": "kim",
}
PROJECT: dict[str, Any] = {
    "name": "reporting",
    "objects": [{"name": "orders", "sources": [SOURCE]}],
    "created": _AT,
    "created_by": "kim",
}


def page(*items: dict[str, Any]) -> dict[str, Any]:
    """A last page with these in it."""
    return {"items": list(items)}
