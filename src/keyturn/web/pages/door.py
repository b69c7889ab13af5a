"""Setup, invitations, sign-in and sign-out."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from keyturn.errors import InvalidInput, KeyturnError, NotPermitted
from keyturn.operations import passkeys, people, sessions, single_sign_on
from keyturn.web import words
from keyturn.web.site import Visit, local_path


def setup_form(it: Visit) -> Response:
    """The first start."""
    if not people.is_fresh(it.site.hub):
        return RedirectResponse("/sign-in", 303)
    return _form(it, is_setup=True)


def set_up(it: Visit) -> Response:
    """Makes the first administrator and signs them in."""
    return _choose(it, is_setup=True)


def join_form(it: Visit) -> Response:
    """Somebody opened their invitation."""
    return _form(it, is_setup=False)


def join(it: Visit) -> Response:
    """Takes their password and signs them in."""
    return _choose(it, is_setup=False)


def _form(it: Visit, *, is_setup: bool, status: int = 200, hint: str = "", **wrong: str) -> Response:
    return it.render(
        "setup.html",
        status,
        is_setup=is_setup,
        name=it.text("name"),
        login=it.text("login"),
        hint=hint,
        errors={"form": "", "link": "", "name": "", "login": "", "password": "", "again": "", **wrong},
    )


def _choose(it: Visit, *, is_setup: bool) -> Response:
    hub, code, password = it.site.hub, it.text("code"), it.text("password")
    if password != it.text("again"):
        return _form(it, is_setup=is_setup, status=422, again="The two are not the same.")
    if pause := sessions.wait_s(hub, "(link)", it.address):
        return _form(
            it, is_setup=is_setup, status=429, form="Too many attempts.", hint=f"Wait {words.span(pause)}."
        )
    try:
        if is_setup:
            account = people.set_up(
                hub, code, it.text("login"), it.text("name"), password, address=it.address
            )
        else:
            account = people.accept(hub, code, password, address=it.address)
        signed = sessions.welcome(hub, account, "link", address=it.address, agent=it.agent)
    except InvalidInput as error:
        text = f"{_sentence(error.message)} {error.hint}".strip()
        return _form(it, is_setup=is_setup, status=422, **{str(error.facts.get("field", "form")): text})
    except NotPermitted as error:
        sessions.count_failure(hub, "(link)", it.address)
        return _form(it, is_setup=is_setup, status=403, form=_sentence(error.message), hint=error.hint)
    it.set_session = signed.value
    say = "Welcome. Protect your account with an authenticator next: it takes a minute."
    return it.redirect("/account/second-factor", say)


def sign_in_form(it: Visit) -> Response:
    """Name and password."""
    if people.is_fresh(it.site.hub):
        return RedirectResponse("/setup", 303)
    if it.is_in:
        return RedirectResponse(local_path(it.asked("next", "/")), 303)
    return _sign_in(it, next_=local_path(it.asked("next", "/")))


def _sign_in(it: Visit, status: int = 200, next_: str = "/", error: str = "", hint: str = "") -> Response:
    it.be_somebody()
    return it.render(
        "sign_in.html",
        status,
        login=it.text("login"),
        next=next_,
        error=error,
        hint=hint,
        has_sso=single_sign_on.is_there(it.site.hub),
        options=passkeys.ask(it.site.hub, it.cookie) if passkeys.are_possible(it.site.hub) else "",
    )


def sso(it: Visit) -> Response:
    """On to the provider of single sign-on."""
    try:
        begun = single_sign_on.begin(it.site.hub, local_path(it.asked("next", "/")))
    except KeyturnError as error:
        return _sign_in(it, 503, "/", _sentence(single_sign_on.trouble(error)))
    it.cookies["keyturn-sso"] = (it.site.sign(dict(begun.kept), "sso"), single_sign_on.LAST_S)
    return RedirectResponse(begun.url, 303)


def sso_back(it: Visit) -> Response:
    """The browser comes back from the provider."""
    kept = it.site.unsign(it.request.cookies.get("keyturn-sso", ""), "sso") or {}
    it.cookies["keyturn-sso"] = ("", 0)
    answer = {name: it.request.query_params[name][:4000] for name in it.request.query_params}
    try:
        signed = single_sign_on.finish(it.site.hub, kept, answer, address=it.address, agent=it.agent)
    except KeyturnError as error:
        return _sign_in(it, 403, "/", _sentence(single_sign_on.trouble(error)), words.hint(error.hint))
    it.set_session = signed.value
    return RedirectResponse(local_path(str(kept.get("back", "/"))), 303)


def by_passkey(it: Visit) -> Response:
    """Takes what the browser's device signed."""
    back = local_path(it.text("next", "/"))
    try:
        signed = passkeys.sign_in(
            it.site.hub, it.cookie, it.text("answer"), address=it.address, agent=it.agent
        )
    except NotPermitted as error:
        status = 429 if "wait_s" in error.facts else 403
        return _sign_in(it, status, back, _sentence(error.message), error.hint)
    it.set_session = signed.value
    return RedirectResponse(back, 303)


def sign_in(it: Visit) -> Response:
    """Checks name and password; on to the code where there is a second factor."""
    back = local_path(it.text("next", "/"))
    try:
        signed = sessions.sign_in(
            it.site.hub,
            it.text("login")[:200],
            it.text("password")[:1000],
            address=it.address,
            agent=it.agent,
        )
    except NotPermitted as error:
        status = 429 if "wait_s" in error.facts else 403
        return _sign_in(it, status, back, _sentence(error.message), error.hint)
    if it.is_in:  # somebody else was signed in here
        sessions.sign_out(it.site.hub, it.cookie, by=it.who.login, address=it.address)
    it.set_session = signed.value
    if signed.needs_code:
        it.cookies["keyturn-next"] = (it.site.sign(back, "next"), 600)
        return RedirectResponse("/sign-in/code", 303)
    return RedirectResponse(back, 303)


def code_form(it: Visit) -> Response:
    """The second factor."""
    if not sessions.is_half(it.site.hub, it.cookie):
        return RedirectResponse("/sign-in", 303)
    back = it.site.unsign(it.request.cookies.get("keyturn-next", ""), "next") or "/"
    return it.render("code.html", next=local_path(str(back)), error="", hint="")


def code(it: Visit) -> Response:
    """Checks it."""
    back = local_path(it.text("next", "/"))
    try:
        signed = sessions.finish(
            it.site.hub, it.cookie, it.text("code")[:40], address=it.address, agent=it.agent
        )
    except NotPermitted as error:
        if error.facts.get("begin"):
            return it.redirect("/sign-in", "The sign-in took too long. Start again.", "warn")
        status = 429 if "wait_s" in error.facts else 403
        return it.render("code.html", status, next=back, error=_sentence(error.message), hint=error.hint)
    it.set_session = signed.value
    it.cookies["keyturn-next"] = ("", 0)
    return RedirectResponse(back, 303)


def sign_out(it: Visit) -> Response:
    """Ends this session, here and in the database."""
    sessions.sign_out(it.site.hub, it.cookie, by=it.who.login, address=it.address)
    it.set_session = ""
    return it.redirect("/sign-in")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
