"""One's own account: password, second factor, recovery codes, sessions, appearance."""

from __future__ import annotations

from markupsafe import Markup
from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput, NotFound, NotPermitted
from keyturn.operations import factors, passkeys, people, sessions
from keyturn.operations.rights import SAYS, Role
from keyturn.web.site import Visit

_YEAR_S = 365 * 86400


def show(it: Visit) -> Response:
    """The account."""
    return _show(it)


def _show(it: Visit, status: int = 200, **wrong: str) -> Response:
    person = people.get(it.hub, it.who.id)
    return it.render(
        "account.html",
        status,
        person=person,
        sessions=sessions.of(it.hub, it.who.id),
        passkeys=passkeys.of(it.hub, it.who.id),
        has_passkeys=passkeys.are_possible(it.site.hub),
        codes_left=factors.codes_left(it.hub, person.account),
        says={role.value: text for role, text in SAYS.items()},
        roles=[(Role(role).value, project) for role, project in it.who.held],
        errors={"old": "", "password": "", "again": "", "remove": "", **wrong},
    )


def change_password(it: Visit) -> Response:
    """Another password; other sessions end."""
    if it.text("password") != it.text("again"):
        return _show(it, 422, again="The two are not the same.")
    try:
        people.change_password(it.hub, it.who, it.text("old"), it.text("password"), keep=it.session.digest)
    except (InvalidInput, NotPermitted) as error:
        text = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}".strip()
        return _show(it, 422, **{str(error.facts.get("field", "password")): text})
    return it.redirect("/account", "Your password is changed. Other devices were signed out.")


def second_factor(it: Visit) -> Response:
    """Sets up an authenticator: a fresh secret each time the page is asked for, in force once a code shows it works."""
    account = people.get(it.hub, it.who.id).account
    if account.totp_at is not None:
        return it.redirect("/account")
    return _factor(it, factors.offered(it.hub, account) or factors.offer(it.hub, account))


def _factor(it: Visit, offer: factors.Offer, status: int = 200, error: str = "") -> Response:
    import segno

    qr = segno.make(offer.uri, error="m").svg_inline(
        scale=4, border=0, omitsize=True, svgclass=None, lineclass=None
    )
    return it.render("second_factor.html", status, qr=Markup(qr), secret=offer.secret, error=error)  # noqa: S704 - drawn by us


def confirm(it: Visit) -> Response:
    """Puts it in force and shows the recovery codes, this once."""
    account = people.get(it.hub, it.who.id).account
    try:
        codes = factors.confirm(it.hub, account, it.text("code")[:20], address=it.address)
    except InvalidInput as error:
        offer = factors.offered(it.hub, account)
        if offer is None:
            raise
        return _factor(it, offer, 422, f"{error.message[:1].upper()}{error.message[1:]}. {error.hint}")
    return it.render("codes.html", codes=codes, is_new=True)


def renew_codes(it: Visit) -> Response:
    """Ten new recovery codes."""
    account = people.get(it.hub, it.who.id).account
    if account.password and not it.password_is_right(account, it.text("confirm")):
        return _show(it, 422, remove="The password is not right.")
    return it.render(
        "codes.html", codes=factors.renew_codes(it.hub, account, address=it.address), is_new=False
    )


def remove_factor(it: Visit) -> Response:
    """Takes the authenticator away."""
    account = people.get(it.hub, it.who.id).account
    if not it.password_is_right(account, it.text("confirm")):
        return _show(it, 422, remove="The password is not right.")
    factors.remove(it.hub, account, address=it.address)
    return it.redirect(
        "/account", "The authenticator is removed. Your password alone opens your account now.", "warn"
    )


def passkey(it: Visit) -> Response:
    """The page on which the browser makes one."""
    if not passkeys.are_possible(it.site.hub):
        raise Conflict(
            "passkeys need this hub under a name, over TLS",
            hint="The hub's address is an IP address, or without TLS.",
        )
    account = people.get(it.hub, it.who.id).account
    return it.render("passkey.html", options=passkeys.offer(it.hub, account, it.cookie))


def add_passkey(it: Visit) -> Response:
    """Keeps what the browser made."""
    account = people.get(it.hub, it.who.id).account
    passkeys.add(it.hub, account, it.cookie, it.text("answer"), it.text("name"), address=it.address)
    return it.redirect("/account", "The passkey is kept. Next time you sign in with it alone.")


def remove_passkey(it: Visit) -> Response:
    """Takes one away."""
    account = people.get(it.hub, it.who.id).account
    passkeys.remove(it.hub, account, it.text("passkey"), address=it.address)
    return it.redirect("/account", "The passkey is removed.")


def sign_out_others(it: Visit) -> Response:
    """Ends all sessions but this one, or the one that is named."""
    wanted = it.text("session")
    mine = {each.digest[:16]: each.digest for each in sessions.of(it.hub, it.who.id)}
    if wanted and wanted not in mine:
        raise NotFound("this session has ended already")
    ended = sessions.sign_out_everywhere(
        it.hub,
        it.who.id,
        by=it.who.login,
        address=it.address,
        but=it.session.digest,
        one=mine.get(wanted, ""),
    )
    return it.redirect(
        "/account#sessions", f"{ended} {'session was' if ended == 1 else 'sessions were'} ended."
    )


def appearance(it: Visit) -> Response:
    """Light, dark, or as the system has it."""
    theme = it.text("theme")
    it.cookies["keyturn-theme"] = (theme, _YEAR_S) if theme in {"light", "dark"} else ("", 0)
    return it.redirect("/account")
