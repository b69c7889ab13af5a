"""The hub itself: what needs somebody today, whether it is well, its backups, master keys and datasets."""

from __future__ import annotations

from typing import Any

from keyturn.api import examples, shapes
from keyturn.api.calls import Caller, Calls
from keyturn.model.moment import iso
from keyturn.operations import backups, datasets, doctor, overview, vault
from keyturn.operations.rights import Operation

calls = Calls("hub")


@calls.get(
    "/today",
    Operation.HUB_READ,
    "What needs somebody now",
    answer=shapes.Today,
    example=examples.TODAY,
)
def today(it: Caller) -> dict[str, Any]:
    """Ids of tasks, runs and debts, names of connections; most urgent first. `counts` tells of those beyond the first 100."""
    found = overview.today(it.hub, it.projects(), overview.MOST_SHOWN)
    return {
        "connections": found.connections,
        "quiet": found.is_quiet,
        "counts": dict(found.counts),
        "tasks": [task.id for task in found.tasks],
        "stuck": [run.id for run, _ in found.stuck],
        "failed": [run.id for run, _ in found.failed],
        "expired": [line.name for line in found.expired],
        "overdue": [line.name for line in found.overdue],
        "expiring": [line.name for line in found.expiring],
        "reauthorize": [line.name for line in found.reauthorize],
        "debts": [debt.id for debt, _ in found.debts],
        "running": [line.name for line in found.running],
    }


@calls.get(
    "/doctor",
    Operation.HUB_CHECK,
    "Look at everything the hub stands on",
    answer=shapes.Doctor,
    example=examples.DOCTOR,
    hub_wide=True,
)
def look(it: Caller) -> dict[str, Any]:
    """Database, master key, packages, audit trail, clock. Changes nothing."""
    found = doctor.doctor(it.site.settings, it.site.catalog)
    return {"ok": all(each.state != "fail" for each in found), "checks": [vars(each) for each in found]}


_BACKUP = {"file": "keyturn-2026-11-23-100000.db", "size_bytes": 1_048_576, "made": "2026-11-23T10:00:00Z"}
_KEY = "kek_8c1f0a2b3d4e5f60"


@calls.get(
    "/backups",
    Operation.HUB_BACKUP,
    "The backups that lie on the hub's machine",
    answer=shapes.Page[shapes.Backup],
    example=examples.page(_BACKUP),
    hub_wide=True,
)
def kept(it: Caller) -> dict[str, Any]:
    """Newest first."""
    found = backups.kept(it.hub.settings)
    return {
        "items": [
            {"file": each.path.name, "size_bytes": each.size_bytes, "made": iso(each.made_at)}
            for each in found
        ]
    }


@calls.post(
    "/backups",
    Operation.HUB_BACKUP,
    "Make a backup",
    answer=shapes.NewBackup,
    status=201,
    example={**_BACKUP, "keys": [_KEY], "connections": 12},
    hub_wide=True,
)
def back_up(it: Caller) -> dict[str, Any]:
    """Of the database, while it is in use, on the hub's machine: move it elsewhere from there. On PostgreSQL use pg_dump."""
    made = backups.make(it.hub, it.who.address)
    return {
        "file": made.path.name,
        "size_bytes": made.size_bytes,
        "made": iso(made.path.stat().st_mtime),
        "keys": list(made.key_ids),
        "connections": made.connections,
    }


@calls.get(
    "/vault",
    Operation.HUB_CHECK,
    "Which master keys wrap what",
    answer=shapes.Vault,
    example={
        "source": "file:/etc/keyturn/kek",
        "keys": [{"id": _KEY, "rows": 120, "newest": True}],
        "lost": {},
    },
    hub_wide=True,
)
def wrapped(it: Caller) -> dict[str, Any]:
    """Never a key."""
    found = vault.status(it.hub)
    keys = [{"id": key, "rows": rows, "newest": not n} for n, (key, rows) in enumerate(found.keys)]
    return {"source": found.source, "keys": keys, "lost": dict(found.lost)}


@calls.post(
    "/vault/rotate",
    Operation.VAULT_ROTATE,
    "Make a newer master key and wrap every row under it",
    answer=shapes.Rewrapped,
    example={"key": _KEY, "rows": 120},
    problems=(503,),
    hub_wide=True,
)
def rotate(it: Caller) -> dict[str, Any]:
    """No value is touched and no run stops. Back the source of the key up again afterwards."""
    key, rows = vault.rotate_kek(it.hub, address=it.who.address)
    return {"key": key, "rows": rows}


@calls.post(
    "/vault/rewrap",
    Operation.VAULT_ROTATE,
    "Wrap under the newest master key what is under an older one",
    answer=shapes.Rewrapped,
    example={"key": _KEY, "rows": 3},
    problems=(503,),
    hub_wide=True,
)
def rewrap(it: Caller) -> dict[str, Any]:
    """Makes no key: for one that was added by hand, and after an interruption."""
    key, rows = vault.rotate_kek(it.hub, new_key=False, address=it.who.address)
    return {"key": key, "rows": rows}


@calls.delete(
    "/datasets/{dataset}",
    Operation.DATASET_DROP,
    "Delete a dataset",
    status=204,
    problems=(404, 409),
    hub_wide=True,
)
def drop(it: Caller, dataset: str) -> None:
    """With everything in it. Not while a load into it runs."""
    datasets.drop(it.hub, dataset, it.who.address)
