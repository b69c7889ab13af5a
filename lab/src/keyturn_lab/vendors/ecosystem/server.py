"""An API as Ecosystems might have one. No public page describes the real one, so this is a shape and no copy of it."""

from flask import Flask, Response, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.ecosystem.pages import pages
from keyturn_lab.vendors.ecosystem.state import Platform


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh platform with two accounts and no key; both edges of a key's life lag by 0.2 s."""
    clock = clock or Clock()
    quirks = Quirks(seed, settle_s=0.2)
    platform = Platform(clock, quirks)
    app = build_app(Stage("ecosystem", platform, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: platform.settings)
    app.register_blueprint(pages(platform))

    @app.get("/v1/value-drivers")
    def value_drivers() -> Response:
        settings = platform.settings
        sent = request.headers.get(settings.header, "")
        wanted = f"{settings.prefix} " if settings.prefix else ""
        value = sent.removeprefix(wanted) if sent.startswith(wanted) else ""
        account = platform.account_of(value)
        if account is None:
            return _refuse(settings.refused_with, "The key is not valid")
        if meets(Kind.REFUSE_VALUE):
            return _refuse(404, "There is nothing here")
        if meets(Kind.WRONG_IDENTITY):
            account = next(each for each in platform.accounts if each != account)
        named = {"account": account} if settings.names_account else {}
        return jsonify(valueDrivers=[{"id": 1, "name": "Hours saved"}, {"id": 2, "name": "Calls"}], **named)

    return app


def _refuse(status: int, message: str) -> Response:
    answer = jsonify(message=message)
    answer.status_code = status
    return answer


def _throttled() -> Response:
    answer = _refuse(429, "Too many requests")
    answer.headers["Retry-After"] = "1"
    return answer
