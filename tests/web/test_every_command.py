"""Everything the command line can do, a person can do on a page; what has no page is in the manual, with the reason."""

from pathlib import Path

import click

from keyturn.cli.main import COMMANDS, cli
from keyturn.web.app import site_map

MANUAL = Path(__file__).parents[2] / "docs/operations.md"
# command -> the page on which it is done; NONE: the manual says why there is none
NONE = ""
PAGES = {
    "init": NONE,
    "serve": NONE,
    "worker": NONE,
    "restore": NONE,
    "lease": NONE,
    "definitions new": NONE,
    "audit verify": NONE,
    "doctor": "GET /health",
    "backup": "POST /backups",
    "vault status": "GET /vault",
    "vault rotate-kek": "POST /vault/rotate",
    "recipients list": "GET /settings",
    "recipients test": "POST /settings/told/{recipient_id}/test",
    "audit export": "POST /audit/export",
    "systems": "GET /systems/{system}",
    "definitions add": "POST /connect/{system}/{method}/definition",
    "definitions check": "POST /connect/{system}/{method}/definition",
    "definitions list": "GET /connect/{system}/{method}",
    "connect": "POST /connect/{system}/{method}",
    "list": "GET /connections",
    "show": "GET /connections/{connection_id}",
    "test": "POST /connections/{connection_id}/test",
    "discover": "POST /connections/{connection_id}/look",
    "history": "GET /connections/{connection_id}/history",
    "use": "POST /connections/{connection_id}/users",
    "project add": "POST /projects",
    "project list": "GET /projects",
    "project show": "GET /projects/{project}",
    **dict.fromkeys(
        ["project remove", "project add-object", "project remove-object"], "POST /projects/{project}"
    ),
    "source list": "GET /projects/{project}",
    **dict.fromkeys(["source add", "source edit", "source remove"], "POST /projects/{project}"),
    "source reauthorize": "POST /connections/{connection_id}/start/{goal}",
    "job list": "GET /jobs",
    "job show": "GET /jobs/{job_id}",
    "job add": "POST /jobs",
    "job run": "POST /jobs/{job_id}/run",
    **dict.fromkeys(["job pause", "job resume"], "POST /jobs/{job_id}/switch"),
    "job remove": "POST /jobs/{job_id}/remove",
    "plan": "GET /connections/{connection_id}/plan/{goal}",
    **dict.fromkeys(
        ["rotate", "reauthorize", "refresh", "contain"], "POST /connections/{connection_id}/start/{goal}"
    ),
    **dict.fromkeys(["revoke", "disconnect", "reconnect"], "POST /connections/{connection_id}/end/{goal}"),
    "migrate": "POST /connections/{connection_id}/migrate/{method}",
    "runs": "GET /runs",
    "run": "GET /runs/{run_id}",
    "retry": "POST /runs/{run_id}/retry",
    "cancel": "POST /runs/{run_id}/cancel",
    "rollback": "POST /runs/{run_id}/rollback",
    "tasks": "GET /tasks",
    "task": "POST /tasks/{task_id}",
    "approvals": "GET /approvals",
    "approve": "POST /runs/{run_id}/approve",
    "refuse": "POST /runs/{run_id}/refuse",
    "debts": "GET /debts",
    "debt": "POST /debts/{debt_id}/close",
    "issue": "POST /issued/new/{kind}",
    "issued": "GET /issued",
    "reissue": "POST /issued/{issued_id}/reissue",
    "revoke-issued": "POST /issued/{issued_id}/revoke",
    "grants": "POST /issued/{issued_id}/take-back",
    "holders": "POST /issued/{issued_id}/holders",
    "handover": "POST /issued/{issued_id}/link",
    "leaked": "POST /leaks",
    "datasets": "POST /datasets/{dataset}/export",
    "events": "POST /received/replay-all",
}


def verbs():
    """Every command, and of those that hold others each of these."""
    found = []
    context = click.Context(cli)
    for name in (name for section in COMMANDS.values() for name in section):
        command = cli.get_command(context, name)
        within = command.list_commands(context) if isinstance(command, click.Group) else []
        found += [f"{name} {each}" for each in within] or [name]
    return found


def test_every_command_has_its_page(app):
    """Or stands in the manual, with the reason; whoever adds a command adds the one or the other."""
    assert sorted(verbs()) == sorted(PAGES)
    there = {f"{page.method} {page.path}" for page in site_map(app.state.pages.live)}
    assert {page for page in PAGES.values() if page != NONE} <= there
    said = MANUAL.read_text().partition("## What has no page")[2].partition("\n## ")[0]
    told = {
        line.split("`")[1].removeprefix("keyturn ") for line in said.splitlines() if line.startswith("| `")
    }
    assert told == {command for command, page in PAGES.items() if page == NONE}
