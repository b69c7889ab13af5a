"""The site map, and the pages as an application that the API's server carries."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from keyturn.bootstrap import Keyturn
from keyturn.operations.rights import Operation
from keyturn.web.guard import Guard
from keyturn.web.live import Live
from keyturn.web.pages import (
    account,
    approvals,
    audit,
    backups,
    bulk,
    connect,
    connections,
    consent,
    debts,
    door,
    editing,
    health,
    helping,
    home,
    issued,
    jobs,
    leaks,
    migrate,
    people,
    plans,
    projects,
    received,
    runs,
    settings,
    systems,
    tasks,
    vault,
)
from keyturn.web.site import Page, Site

_YEAR = "public, max-age=31536000, immutable"


def site_map(live: Live) -> tuple[Page, ...]:
    """Every page. None as operation: open to everybody; there are only those of the door, and
    one for outside helpers, who come with a link that works once."""
    own, look, change = Operation.ACCOUNT_OWN, Operation.PEOPLE_READ, Operation.PEOPLE_CHANGE
    return (
        Page("GET", "/setup", door.setup_form, None),
        Page("POST", "/setup", door.set_up, None),
        Page("GET", "/join", door.join_form, None),
        Page("POST", "/join", door.join, None),
        Page("GET", "/sign-in", door.sign_in_form, None),
        Page("POST", "/sign-in", door.sign_in, None),
        Page("GET", "/sign-in/code", door.code_form, None),
        Page("POST", "/sign-in/code", door.code, None),
        Page("POST", "/sign-in/passkey", door.by_passkey, None),
        Page("GET", "/sign-in/sso", door.sso, None),
        Page("GET", "/sign-in/sso/back", door.sso_back, None),
        Page("GET", "/help", helping.show, None),
        Page("POST", "/help", helping.open_, None),
        Page("POST", "/help/hand-in", helping.hand_in, None),
        Page("POST", "/sign-out", door.sign_out, own),
        Page("GET", "/account", account.show, own),
        Page("POST", "/account/password", account.change_password, own),
        Page("GET", "/account/second-factor", account.second_factor, own),
        Page("POST", "/account/second-factor", account.confirm, own),
        Page("POST", "/account/second-factor/remove", account.remove_factor, own),
        Page("POST", "/account/recovery-codes", account.renew_codes, own),
        Page("GET", "/account/passkey", account.passkey, own),
        Page("POST", "/account/passkey", account.add_passkey, own),
        Page("POST", "/account/passkey/remove", account.remove_passkey, own),
        Page("POST", "/account/sign-out", account.sign_out_others, own),
        Page("POST", "/account/appearance", account.appearance, own),
        Page("GET", "/account/apps", consent.apps, own),
        Page("POST", "/account/apps/{grant_id}/end", consent.end, own),
        Page("GET", "/oauth/authorize", consent.show, None),
        Page("POST", "/oauth/authorize", consent.answer, own),
        Page("GET", "/people", people.show, look),
        Page("POST", "/people", people.invite, change),
        Page("GET", "/people/{account_id}", people.one, look),
        Page("POST", "/people/{account_id}/roles", people.set_roles, change),
        Page("POST", "/people/{account_id}/switch", people.switch, change),
        Page("POST", "/people/{account_id}/sign-out", people.sign_out, change),
        Page("POST", "/people/{account_id}/link", people.invite_again, change),
        Page("POST", "/people/{account_id}/tokens", people.make_token, change),
        Page("POST", "/people/{account_id}/tokens/{token_id}/end", people.end_token, change),
        Page("GET", "/", home.show, Operation.HUB_READ),
        Page("GET", "/connect", connect.choose, Operation.CONNECTION_CHANGE),
        Page("GET", "/connect/{system}", connect.methods, Operation.CONNECTION_CHANGE),
        Page("GET", "/connect/{system}/{method}", connect.form, Operation.CONNECTION_CHANGE),
        Page("POST", "/connect/{system}/{method}", connect.save, Operation.CONNECTION_CHANGE, files=8),
        Page(
            "POST",
            "/connect/{system}/{method}/definition",
            connect.keep_definition,
            Operation.CONNECTION_CHANGE,
            files=1,
        ),
        Page("GET", "/connections", connections.every, Operation.CONNECTION_READ),
        Page("GET", "/connections/{connection_id}", connections.one, Operation.CONNECTION_READ),
        Page("GET", "/connections/{connection_id}/history", connections.history, Operation.CONNECTION_READ),
        Page("GET", "/connections/{connection_id}/edit", editing.show, Operation.CONNECTION_CHANGE),
        Page("POST", "/connections/{connection_id}/edit/about", editing.about, Operation.CONNECTION_CHANGE),
        Page(
            "POST",
            "/connections/{connection_id}/edit/policy",
            editing.set_policy,
            Operation.CONNECTION_CHANGE,
        ),
        Page(
            "POST",
            "/connections/{connection_id}/edit/settings",
            editing.set_settings,
            Operation.CONNECTION_CHANGE,
            files=8,
        ),
        Page("POST", "/connections/{connection_id}/edit/forget", editing.forget, Operation.CONNECTION_CHANGE),
        Page("POST", "/connections/{connection_id}/test", connections.test, Operation.CONNECTION_TEST),
        Page("GET", "/connections/{connection_id}/plan/{goal}", plans.show, Operation.PLAN_READ),
        Page("POST", "/connections/{connection_id}/start/{goal}", plans.rotate, Operation.RUN_ROTATE),
        Page("POST", "/connections/{connection_id}/end/{goal}", plans.end, Operation.RUN_END),
        Page("POST", "/connections/{connection_id}/look", connections.look, Operation.CONNECTION_TEST),
        Page("POST", "/connections/{connection_id}/users", connections.declare, Operation.CONNECTION_CHANGE),
        Page("GET", "/connections/{connection_id}/migrate", migrate.choose, Operation.RUN_END),
        Page("GET", "/connections/{connection_id}/migrate/{method}", migrate.form, Operation.RUN_END),
        Page(
            "POST",
            "/connections/{connection_id}/migrate/{method}/plan",
            migrate.look,
            Operation.RUN_END,
            files=8,
        ),
        Page(
            "POST", "/connections/{connection_id}/migrate/{method}", migrate.start, Operation.RUN_END, files=8
        ),
        Page("GET", "/bulk/{goal}", bulk.show, Operation.PLAN_READ),
        Page("POST", "/bulk/{goal}", bulk.start, Operation.RUN_ROTATE),
        Page("GET", "/leaks", leaks.show, Operation.RUN_ROTATE),
        Page("POST", "/leaks/look", leaks.look, Operation.RUN_ROTATE, files=1),
        Page("POST", "/leaks", leaks.stop, Operation.RUN_ROTATE, files=1),
        Page("GET", "/runs", bulk.follow, Operation.RUN_READ),
        Page("GET", "/runs/{run_id}", runs.show, Operation.RUN_READ),
        Page("GET", "/approvals", approvals.every, Operation.APPROVAL_READ),
        Page("POST", "/runs/{run_id}/approve", approvals.approve, Operation.RUN_APPROVE),
        Page("POST", "/runs/{run_id}/refuse", approvals.refuse, Operation.RUN_APPROVE),
        Page("POST", "/runs/{run_id}/retry", runs.retry, Operation.RUN_STEER),
        Page("POST", "/runs/{run_id}/cancel", runs.cancel, Operation.RUN_STEER),
        Page("POST", "/runs/{run_id}/rollback", runs.rollback, Operation.RUN_STEER),
        Page("GET", "/tasks", tasks.every, Operation.TASK_READ),
        Page("GET", "/tasks/{task_id}", tasks.one, Operation.TASK_READ),
        Page("POST", "/tasks/{task_id}/link", tasks.share, Operation.TASK_SHARE),
        Page("POST", "/tasks/{task_id}/claim", tasks.claim, Operation.TASK_DO),
        Page("POST", "/tasks/{task_id}", tasks.submit, Operation.TASK_DO),
        Page("GET", "/issued", issued.every, Operation.ISSUED_READ),
        Page("GET", "/issued/new", issued.choose, Operation.ISSUED_CHANGE),
        Page("GET", "/issued/new/{kind}", issued.form, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/new/{kind}", issued.issue, Operation.ISSUED_CHANGE),
        Page("GET", "/issued/end", issued.end_many, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/end", issued.end_many, Operation.ISSUED_CHANGE),
        Page("GET", "/issued/{issued_id}", issued.one, Operation.ISSUED_READ),
        Page("POST", "/issued/{issued_id}/reissue", issued.reissue, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/revoke", issued.revoke, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/reveal", issued.reveal, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/holders", issued.hold, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/holder", issued.change_holder, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/take-back", issued.take_back, Operation.ISSUED_CHANGE),
        Page("POST", "/issued/{issued_id}/link", issued.link, Operation.ISSUED_CHANGE),
        Page("GET", "/received", received.show, Operation.ISSUED_READ),
        Page("POST", "/received/replay", received.replay, Operation.ISSUED_CHANGE),
        Page("GET", "/datasets/{dataset}", received.one, Operation.DATASET_READ),
        Page("POST", "/datasets/{dataset}/export", received.export, Operation.DATASET_READ),
        Page("POST", "/datasets/{dataset}/drop", received.drop, Operation.DATASET_DROP),
        Page("POST", "/received/replay-all", received.replay_all, Operation.ISSUED_CHANGE),
        Page("GET", "/jobs", jobs.every, Operation.CONNECTION_READ),
        Page("GET", "/jobs/new", jobs.form, Operation.CONNECTION_CHANGE),
        Page("POST", "/jobs", jobs.add, Operation.CONNECTION_CHANGE),
        Page("GET", "/jobs/{job_id}", jobs.one, Operation.CONNECTION_READ),
        Page("POST", "/jobs/{job_id}/run", jobs.run, Operation.CONNECTION_TEST),
        Page("POST", "/jobs/{job_id}/switch", jobs.switch, Operation.CONNECTION_CHANGE),
        Page("POST", "/jobs/{job_id}/remove", jobs.remove, Operation.CONNECTION_CHANGE),
        Page("GET", "/projects", projects.every, Operation.CONNECTION_READ),
        Page("POST", "/projects", projects.add, Operation.CONNECTION_CHANGE),
        Page("GET", "/projects/{project}", projects.one, Operation.CONNECTION_READ),
        Page("POST", "/projects/{project}", projects.change, Operation.CONNECTION_CHANGE),
        Page("GET", "/debts", debts.every, Operation.DEBT_READ),
        Page("GET", "/debts/{debt_id}", debts.one, Operation.DEBT_READ),
        Page("POST", "/debts/{debt_id}/try", debts.try_again, Operation.DEBT_TRY),
        Page("POST", "/debts/{debt_id}/close", debts.close, Operation.DEBT_CLOSE),
        Page("GET", "/systems", systems.every, Operation.SYSTEM_READ),
        Page("GET", "/systems/{system}", systems.one, Operation.SYSTEM_READ),
        Page("GET", "/audit", audit.show, Operation.AUDIT_READ),
        Page("POST", "/audit/check", audit.check, Operation.AUDIT_READ),
        Page("POST", "/audit/export", audit.export, Operation.AUDIT_READ),
        Page("GET", "/settings", settings.show, Operation.NOTICE_READ),
        Page("GET", "/settings/tell/{kind}", settings.form, Operation.NOTICE_CHANGE),
        Page("POST", "/settings/tell/{kind}", settings.add, Operation.NOTICE_CHANGE),
        Page("GET", "/settings/told/{recipient_id}", settings.one, Operation.NOTICE_READ),
        Page("POST", "/settings/told/{recipient_id}", settings.change, Operation.NOTICE_CHANGE),
        Page("POST", "/settings/told/{recipient_id}/switch", settings.switch, Operation.NOTICE_CHANGE),
        Page("POST", "/settings/told/{recipient_id}/secret", settings.renew, Operation.NOTICE_CHANGE),
        Page("POST", "/settings/told/{recipient_id}/remove", settings.remove, Operation.NOTICE_CHANGE),
        Page("POST", "/settings/told/{recipient_id}/test", settings.test, Operation.NOTICE_TEST),
        Page("POST", "/settings/told/{recipient_id}/try", settings.try_again, Operation.NOTICE_CHANGE),
        Page("GET", "/health", health.show, Operation.HUB_CHECK),
        Page("GET", "/backups", backups.show, Operation.HUB_BACKUP),
        Page("POST", "/backups", backups.make, Operation.HUB_BACKUP),
        Page("GET", "/vault", vault.show, Operation.HUB_CHECK),
        Page("POST", "/vault/rotate", vault.rotate, Operation.VAULT_ROTATE),
        Page("POST", "/vault/rewrap", vault.rewrap, Operation.VAULT_ROTATE),
        Page("GET", "/live", live.hub, Operation.HUB_READ),
        Page("GET", "/live/runs/{run_id}", live.run, Operation.RUN_READ),
    )


class Pages:
    """The pages of one hub. `live.stopping` is asked before streams go on."""

    def __init__(self, hub: Keyturn) -> None:
        self.site = Site(hub)
        self.live = Live(self.site)
        self.site.templates.globals["pulse"] = self.live.pulse
        self.map = site_map(self.live)
        routes = [self.site.route(page) for page in self.map]
        app = Starlette(
            routes=[*routes, Route("/static/{name}", self._file)],
            exception_handlers={HTTPException: self._http},
        )
        app.router.redirect_slashes = False
        self.app: ASGIApp = Guard(app, hub.settings.public_url)

    def _file(self, request: Request) -> Response:
        """A style sheet, script or icon; its address changes with its content."""
        found = self.site.files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        data, kind, _ = found
        return Response(data, media_type=kind, headers={"Cache-Control": _YEAR})

    def _http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code in {404, 405}:
            return self.site.not_found(request)
        return Response(status_code=error.status_code)
