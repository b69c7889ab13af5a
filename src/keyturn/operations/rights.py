"""The one table of what may be done and which role may do it. Command line, API and pages all ask here.

Whatever is not in the table is refused. A role is held for the whole hub or for one project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from keyturn.errors import NotPermitted


class Role(StrEnum):
    """What somebody is to the hub. Admins can do what operators can, and both what viewers can."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


SAYS: Mapping[Role, str] = {
    Role.VIEWER: "sees connections, runs, tasks and debts; changes nothing",
    Role.OPERATOR: "tests, rotates, authorizes and does tasks",
    Role.APPROVER: "sees everything and the audit trail, approves runs, and accepts debts with a reason",
    Role.ADMIN: "connects, edits, disconnects, issues, and manages people",
}


class Operation(StrEnum):
    """What can be done, as a face offers it."""

    ACCOUNT_OWN = "account.own"
    HUB_READ = "hub.read"
    SYSTEM_READ = "system.read"
    CONNECTION_READ = "connection.read"
    CONNECTION_TEST = "connection.test"
    CONNECTION_CHANGE = "connection.change"
    CREDENTIAL_LEASE = "credential.lease"
    PLAN_READ = "plan.read"
    RUN_READ = "run.read"
    RUN_ROTATE = "run.rotate"
    RUN_END = "run.end"
    RUN_STEER = "run.steer"
    APPROVAL_READ = "approval.read"
    RUN_APPROVE = "run.approve"
    TASK_READ = "task.read"
    TASK_DO = "task.do"
    TASK_SHARE = "task.share"
    DEBT_READ = "debt.read"
    DEBT_TRY = "debt.try"
    DEBT_CLOSE = "debt.close"
    ISSUED_READ = "issued.read"
    ISSUED_CHANGE = "issued.change"
    DATASET_READ = "dataset.read"
    DATASET_DROP = "dataset.drop"
    AUDIT_READ = "audit.read"
    PEOPLE_READ = "people.read"
    PEOPLE_CHANGE = "people.change"
    NOTICE_READ = "notice.read"
    NOTICE_CHANGE = "notice.change"
    NOTICE_TEST = "notice.test"
    HUB_CHECK = "hub.check"
    HUB_BACKUP = "hub.backup"
    VAULT_ROTATE = "vault.rotate"
    HUB_RUN = "hub.run"


@dataclass(frozen=True)
class Right:
    """One line of the table. `scope` is what a token needs besides; empty: no token will do. `programs_only`: no page
    offers it, whatever the role. `hub_wide`: it is about no connection, so a role in a project gives nothing."""

    says: str
    roles: frozenset[Role]
    scope: str = ""
    commands: tuple[str, ...] = ()
    programs_only: bool = False
    hub_wide: bool = False


_ALL = frozenset(Role)
_OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
_ADMINS = frozenset({Role.ADMIN})
_ANSWERABLE = frozenset({Role.APPROVER, Role.ADMIN})
_NOBODY: frozenset[Role] = frozenset()

TABLE: Mapping[Operation, Right] = {
    Operation.ACCOUNT_OWN: Right("manage one's own account", _ALL),
    Operation.HUB_READ: Right("see what needs somebody today", _ALL, "read"),
    Operation.SYSTEM_READ: Right("see what can be connected", _ALL, "read", ("systems", "definitions")),
    Operation.CONNECTION_READ: Right(
        "see connections", _ALL, "read", ("list", "show", "history", "job", "project", "source")
    ),
    Operation.CONNECTION_TEST: Right("test a connection", _OPERATORS, "operate", ("test", "discover", "job")),
    Operation.CONNECTION_CHANGE: Right(
        "connect and edit", _ADMINS, "connect", ("connect", "use", "job", "project", "source")
    ),
    # a value leaves the hub: for programs, never for a page
    Operation.CREDENTIAL_LEASE: Right(
        "lease a credential", _OPERATORS, "lease", ("lease",), programs_only=True
    ),
    Operation.PLAN_READ: Right("see what would happen", _ALL, "read", ("plan",)),
    Operation.RUN_READ: Right("see runs", _ALL, "read", ("runs", "run")),
    Operation.RUN_ROTATE: Right(
        "rotate and authorize",
        _OPERATORS,
        "operate",
        ("rotate", "reauthorize", "refresh", "contain", "leaked"),
    ),
    Operation.RUN_END: Right(
        "revoke, disconnect, reconnect and migrate",
        _ADMINS,
        "end",
        ("revoke", "disconnect", "reconnect", "migrate"),
    ),
    Operation.RUN_STEER: Right(
        "retry, cancel and roll back runs", _OPERATORS, "operate", ("retry", "cancel", "rollback")
    ),
    Operation.APPROVAL_READ: Right("see what waits for a second person", _ALL, "read", ("approvals",)),
    # a second person's word: no token speaks for one
    Operation.RUN_APPROVE: Right("approve and refuse runs", _ANSWERABLE, "", ("approve", "refuse")),
    Operation.TASK_READ: Right("see tasks", _ALL, "read", ("tasks",)),
    Operation.TASK_DO: Right("claim and hand in tasks", _OPERATORS, "task", ("task",)),
    Operation.TASK_SHARE: Right("hand a task to somebody outside", _OPERATORS, "task", ("task",)),
    Operation.DEBT_READ: Right("see debts", _ALL, "read", ("debts",)),
    Operation.DEBT_TRY: Right("try a debt again", _OPERATORS, "operate", ("debt",)),
    Operation.DEBT_CLOSE: Right("close a debt on one's word", _ANSWERABLE, "close", ("debt",)),
    Operation.ISSUED_READ: Right(
        "see what this hub issued", _ALL, "read", ("issued", "holders", "datasets", "events")
    ),
    # what others loaded leaves the hub
    Operation.DATASET_READ: Right(
        "look into datasets and take them away", _OPERATORS, "read", ("datasets",), hub_wide=True
    ),
    Operation.DATASET_DROP: Right("delete datasets", _ADMINS, "issue", ("datasets",), hub_wide=True),
    Operation.ISSUED_CHANGE: Right(
        "issue and end credentials",
        _ADMINS,
        "issue",
        ("issue", "reissue", "revoke-issued", "grants", "handover"),
    ),
    Operation.AUDIT_READ: Right("read the audit trail", _ANSWERABLE, "audit", ("audit",), hub_wide=True),
    Operation.PEOPLE_READ: Right("see people and service identities", _ADMINS, "people", hub_wide=True),
    Operation.PEOPLE_CHANGE: Right(
        "invite people, give roles, make tokens", _ADMINS, "people", hub_wide=True
    ),
    Operation.NOTICE_READ: Right(
        "see who is told of what", _ADMINS, "notify", ("recipients",), hub_wide=True
    ),
    Operation.NOTICE_CHANGE: Right("say who is told of what", _ADMINS, "notify", hub_wide=True),
    Operation.NOTICE_TEST: Right("send a test message", _ADMINS, "notify", ("recipients",), hub_wide=True),
    Operation.HUB_CHECK: Right(
        "see whether the hub is well", _ADMINS, "read", ("doctor", "vault"), hub_wide=True
    ),
    Operation.HUB_BACKUP: Right("make backups", _ADMINS, "backup", ("backup",), hub_wide=True),
    Operation.VAULT_ROTATE: Right("rotate the master key", _ADMINS, "vault", ("vault",), hub_wide=True),
    Operation.HUB_RUN: Right(
        "run the hub itself",
        _NOBODY,
        "",
        ("init", "serve", "worker", "restore"),
        hub_wide=True,
    ),
}
SCOPES = tuple(sorted({right.scope for right in TABLE.values() if right.scope}))


@dataclass(frozen=True)
class Who:
    """Somebody at a face. `held` are (role, project), an empty project being the whole hub; `scopes` limit a token
    further. `is_local` is whoever runs commands on the machine with the database and the master key: nothing here could
    stop them, so nothing pretends to."""

    login: str
    id: str = ""
    name: str = ""
    address: str = ""
    held: tuple[tuple[Role, str], ...] = ()
    scopes: frozenset[str] | None = None
    is_local: bool = False


def may(who: Who, operation: Operation, project: str = "") -> bool:
    """Whether this may be done to something in this project (empty: to something in none, or to the hub)."""
    return _may(who, operation, lambda held: held in {"", project})


def may_somewhere(who: Who, operation: Operation) -> bool:
    """Whether there is any project in which this may be done: for pages that show only what is in those."""
    return _may(who, operation, lambda _held: True)


def missing_scope(who: Who, operation: Operation) -> str:
    """The scope a program's credential lacks for this; empty when it has it, or is nobody's token."""
    right = TABLE[operation]
    return "" if who.scopes is None or _covers(who.scopes, right.scope) else right.scope


def projects(who: Who, operation: Operation) -> frozenset[str] | None:
    """The projects in which this may be done; None for all."""
    if may(who, operation):
        return None
    right = TABLE[operation]
    return frozenset(project for role, project in who.held if role in right.roles)


def _may(who: Who, operation: Operation, fits: Callable[[str], bool]) -> bool:
    right = TABLE.get(operation)
    if right is None:
        return False
    if who.is_local:
        return True
    if who.scopes is None and right.programs_only:
        return False
    if who.scopes is not None and not _covers(who.scopes, right.scope):
        return False
    return any(
        role in right.roles and (not project if right.hub_wide else fits(project))
        for role, project in who.held
    )


def _covers(scopes: frozenset[str], wanted: str) -> bool:
    """`lease:NAME` covers the operation; whose credential it is for is looked at where it is leased."""
    if wanted == "lease" and any(each.startswith("lease:") for each in scopes):
        return True
    return bool(wanted) and wanted in scopes


def local(actor: str) -> Who:
    """Whoever runs commands on this machine."""
    return Who(actor, name=actor, is_local=True)


def check_command(name: str, who: Who) -> None:
    """Raises: NotPermitted when the command is not in the table, or not for them."""
    wanted = [operation for operation, right in TABLE.items() if name in right.commands]
    if not wanted or not any(may(who, operation) for operation in wanted):
        raise NotPermitted(f"{who.login} may not use `keyturn {name}`", field="command")


def why_not(who: Who, operation: Operation) -> str:
    """A refusal in words."""
    needed = " or ".join(sorted(role.value for role in TABLE[operation].roles)) or "nobody's"
    held = ", ".join(sorted(role.value + (f" in {project}" if project else "") for role, project in who.held))
    return f"to {TABLE[operation].says} needs the role {needed}; {who.login} has {held or 'no role'}"
