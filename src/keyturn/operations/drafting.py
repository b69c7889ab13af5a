"""Drafts a definition from answers to plain questions: what a capability card must know of a system, one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.check import Report, check
from keyturn.definitions.jsonpath import PathRefused, compile_path
from keyturn.errors import Conflict, InvalidInput

Answers = Mapping[str, str]


def _always(_: Answers) -> bool:
    return True


@dataclass(frozen=True)
class Question:
    """One question. `name` is the option's; `kind` is text, url, path, json, choice, number or status.

    `when` tells from the answers before it whether it is asked at all; `default` from the same what an empty answer
    means. A question without a default must be answered.
    """

    name: str
    asks: str
    help: str = ""
    example: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    default: Callable[[Answers], str | None] = lambda _: None
    when: Callable[[Answers], bool] = _always


_NAME = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,40})\}")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST = 500
# auth -> its secret part, the public part that is its id, and what they are called
_PARTS: Mapping[str, tuple[str, str, str, str]] = {
    "bearer": ("api_key", "key_id", "API key", "Key id"),
    "header": ("api_key", "key_id", "API key", "Key id"),
    "query": ("api_key", "key_id", "API key", "Key id"),
    "basic": ("password", "user", "Password", "User"),
    "client": ("client_secret", "client_id", "Client secret", "Client id"),
}
_HELP: Mapping[str, str] = {
    "api_key": "As it is shown when it is made.",
    "key_id": "By which it is listed and ended.",
    "password": "Its current password.",
    "user": "The name it signs in with.",
    "client_id": "As the client was registered.",
    "client_secret": "As it is shown when it is made.",
}
_WAYS = (*_PARTS, "consent", "none")


def _held(said: Answers) -> bool:
    """Whether somebody makes the credential: a grant comes of a consent, and a public address needs none."""
    return said.get("auth") in _PARTS


def _is(*ways: str) -> Callable[[Answers], bool]:
    return lambda said: said.get("auth") in ways


def _needs_any(said: Answers) -> bool:
    return said.get("auth") != "none"


def _by_hub(said: Answers) -> bool:
    return said.get("made_by") == "hub"


def _beside(said: Answers) -> bool:
    return said.get("together") == "yes"


def _by_consent(said: Answers) -> bool:
    """Whether a person must take the consent back: no address revokes it, or that would end the new one too."""
    return said.get("auth") == "consent" and not said.get("revoke_url")


def _set(name: str) -> Callable[[Answers], bool]:
    return lambda said: bool(said.get(name))


def _slug(said: Answers) -> str | None:
    return "-".join(re.findall(r"[a-z0-9]+", said.get("title", "").lower())) or None


def _hosts(said: Answers) -> str | None:
    """The host as it stands, or with the account's own label in front left open; None where that would be too wide."""
    host = _NAME.sub("{}", urlsplit(said.get("address", "")).netloc).rpartition(":")
    name = host[0] if host[2].isdigit() else host[0] + host[1] + host[2]
    if "{}" not in name:
        return name or None
    rest = name.removeprefix("{}.")
    return f"*.{rest}" if rest != name and "{}" not in rest and "." in rest else None


def _const(value: str) -> Callable[[Answers], str | None]:
    return lambda _: value


QUESTIONS: tuple[Question, ...] = (
    Question("title", "What is the system called?", example="Acme Notes"),
    Question("id", "A short name for it, that never changes", example="acme-notes", default=_slug),
    Question(
        "docs",
        "Where is its API documented?",
        example="https://docs.acme.example",
        kind="url",
        default=_const(""),
    ),
    Question(
        "address",
        "Under which address does its API answer?",
        "Put what differs from account to account into braces: it becomes a setting.",
        "https://{subdomain}.acme.example/api",
        kind="url",
    ),
    Question(
        "hosts",
        "Which host names may be called, and no other?",
        "Separated by spaces; *. only in front of a full domain.",
        "*.acme.example",
        default=_hosts,
    ),
    Question(
        "auth",
        "How does a credential travel?",
        "bearer: Authorization: Bearer KEY; header or query: a name of its own; basic: user and password; "
        "client: an OAuth client's id and secret; consent: OAuth, a person allows it in a browser; none: a public address.",
        kind="choice",
        choices=_WAYS,
        default=_const("bearer"),
    ),
    Question(
        "carrier",
        "What is the header or parameter called?",
        example="X-API-Key",
        when=_is("header", "query"),
    ),
    Question(
        "authorize_url",
        "Where does a person allow it?",
        example="https://acme.example/oauth/authorize",
        kind="url",
        when=_is("consent"),
    ),
    Question(
        "token_url",
        "Where is the token fetched?",
        example="https://acme.example/oauth/token",
        kind="url",
        when=_is("client", "consent"),
    ),
    Question(
        "scope",
        "Which scopes are asked for?",
        "Separated by spaces; none is fine.",
        "read write",
        default=_const(""),
        when=_is("client", "consent"),
    ),
    Question(
        "rotates",
        "Does every refresh give a new refresh token?",
        "always: and the used one ends; sometimes; never: the same one goes on.",
        kind="choice",
        choices=("always", "sometimes", "never"),
        default=_const("always"),
        when=_is("consent"),
    ),
    Question(
        "idle_days",
        "After how many days does a refresh token end that nobody uses?",
        "0 when it does not, or nobody knows.",
        kind="number",
        default=_const("0"),
        when=_is("consent"),
    ),
    Question(
        "shared",
        "Does ending one consent end the others of the same person and application?",
        "yes is the safer side: then the old one is never ended while the new one is in use.",
        kind="choice",
        choices=("yes", "no"),
        default=_const("yes"),
        when=_is("consent"),
    ),
    Question(
        "revoke_url",
        "Where is a token revoked (RFC 7009)?",
        "Empty when there is no such address: then a person ends it.",
        "https://acme.example/oauth/revoke",
        kind="url",
        default=_const(""),
        when=_is("consent"),
    ),
    Question("test_path", "Which harmless GET answers with who is asking?", example="/me", kind="path"),
    Question(
        "who",
        "Where in its answer does that account stand?",
        "A JSON path. `none` when it tells nobody: then a key of another account would pass.",
        "$.user.id",
        kind="json",
        when=_needs_any,
    ),
    Question(
        "always",
        "Where in its answer does something stand that is always there?",
        "A JSON path. An error page has nothing there, and so it is not taken for an answer.",
        "$.status",
        kind="json",
        when=lambda said: said.get("auth") == "none" or said.get("who") == "none",
    ),
    Question(
        "refused",
        "With which HTTP status is a dead credential refused?",
        kind="status",
        default=_const("401"),
        when=_needs_any,
    ),
    Question(
        "locks_after",
        "After how many refused logins is the account locked?",
        "0 when it never is, or nobody knows. The hub stops well before.",
        kind="number",
        default=_const("0"),
        when=_needs_any,
    ),
    Question(
        "settles",
        "For how many seconds may a new one still be refused, or an ended one still work?",
        kind="number",
        default=_const("30"),
        when=_needs_any,
    ),
    Question(
        "made_by",
        "Who makes a new credential?",
        "hub: the API has calls for it; person: somebody, in the vendor's pages.",
        kind="choice",
        choices=("hub", "person"),
        default=_const("person"),
        when=_held,
    ),
    Question(
        "together",
        "Do the old one and the new one work at the same time?",
        "no: the new one ends the old one the moment it is made.",
        kind="choice",
        choices=("yes", "no"),
        when=_held,
    ),
    Question(
        "create_path",
        "Which POST makes a new one?",
        example="/keys",
        kind="path",
        when=_by_hub,
    ),
    Question(
        "value", "Where in its answer does the secret stand?", example="$.secret", kind="json", when=_by_hub
    ),
    Question(
        "handle",
        "And its id, by which it is ended?",
        example="$.id",
        kind="json",
        when=lambda said: _by_hub(said) and _beside(said),
    ),
    Question(
        "delete_path",
        "Which DELETE ends one?",
        "{id} stands for the id.",
        "/keys/{id}",
        kind="path",
        when=lambda said: _by_hub(said) and _beside(said),
    ),
    Question(
        "how_made",
        "What does a person do to make one?",
        example="Settings > API: New key; copy it",
        when=lambda said: _held(said) and not _by_hub(said),
    ),
    Question(
        "how_ended",
        "What does a person do to end one?",
        "The old one after a rotation, where both work, and the last one when the connection is given up.",
        "Settings > API: Delete the key",
        when=lambda said: _by_consent(said) or (_held(said) and not (_by_hub(said) and _beside(said))),
    ),
    Question(
        "list_path",
        "Which GET lists the credentials there are?",
        "Empty when there is none.",
        "/keys",
        kind="path",
        default=_const(""),
        when=_by_hub,
    ),
    Question(
        "list_items",
        "Where in its answer is the list?",
        example="$.keys",
        kind="json",
        when=_set("list_path"),
    ),
    Question("list_id", "Where in each is its id?", example="$.id", kind="json", when=_set("list_path")),
    Question(
        "list_name",
        "And its name?",
        "A new one is made with a name of ours (a field `name`), by which it is found when the answer was lost. "
        "`none` when no name is listed.",
        "$.name",
        kind="json",
        default=_const("none"),
        when=_set("list_path"),
    ),
    Question(
        "days",
        "After how many days should one be replaced?",
        kind="number",
        default=_const("90"),
        when=_needs_any,
    ),
    Question(
        "sample_path",
        "Which GET lists something that jobs may read a piece of?",
        "Empty when there are no jobs.",
        "/notes",
        kind="path",
        default=_const(""),
    ),
    Question(
        "sample_items",
        "Where in its answer is the list?",
        example="$.notes",
        kind="json",
        when=_set("sample_path"),
    ),
    Question(
        "sample_limit",
        "Which parameter bounds how many it answers with?",
        "Empty when there is none.",
        "per_page",
        default=_const(""),
        when=_set("sample_path"),
    ),
)


def asked(question: Question, said: Answers) -> bool:
    """Whether a question is still open after these answers."""
    return question.when(said) and question.name not in said


def checked(question: Question, text: str, said: Answers) -> str:
    """An answer in its one spelling. Raises: InvalidInput naming the question and the fix."""
    value = text.strip() or question.default(said)
    hint = f"For example {question.example}." if question.example else question.help

    def wrong(why: str) -> InvalidInput:
        return InvalidInput(f"{question.name}: {why}", hint=hint, field=question.name)

    if value is None:
        raise wrong("an answer is needed")
    if not value.isprintable() or len(value) > _LONGEST:
        raise wrong(f"one line of at most {_LONGEST} characters")
    if "${" in value:
        raise wrong("write {name}, without the dollar sign")
    if value and question.kind == "url" and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise wrong("an absolute address is needed, without a query")
    if value and question.kind == "path" and not re.fullmatch(r"/[^\s?#]*", value):
        raise wrong("a path begins with / and has no query")
    if question.kind == "choice" and value not in question.choices:
        raise wrong(f"one of {', '.join(question.choices)}")
    if question.kind == "number" and not re.fullmatch(r"[0-9]{1,4}", value):
        raise wrong("a whole number is needed; 0 when there is no limit")
    if question.kind == "status" and not re.fullmatch(r"4[0-9][0-9]", value):
        raise wrong("a status from 400 to 499 is needed")
    if question.name == "id" and not _ID.fullmatch(value):
        raise wrong("lower-case words joined by -")
    if question.name == "delete_path" and "{id}" not in value:
        raise wrong("{id} must stand in it, or it would end all of them")
    if question.kind == "json" and not (value == "none" and question.name in {"who", "list_name"}):
        try:
            compile_path(value)
        except PathRefused as refused:
            raise wrong(str(refused)) from None
    return value


def complete(given: Answers) -> dict[str, str]:
    """Given answers checked, in the order of the questions, with the defaults of those that were not given.

    Raises: InvalidInput naming every question that has no answer, or an answer that no question asks for.
    """
    said: dict[str, str] = {}
    missing = []
    for question in QUESTIONS:
        if not question.when(said):
            continue
        if question.name in given or question.default(said) is not None:
            said[question.name] = checked(question, given.get(question.name, ""), said)
        else:
            missing.append(question)
    if missing:
        names = ", ".join("--" + q.name.replace("_", "-") for q in missing)
        raise InvalidInput(
            f"these are not answered: {names}", hint=f"{missing[0].asks}", field=missing[0].name
        )
    unasked = [name for name in given if name not in said]
    if unasked:
        raise InvalidInput(
            f"{unasked[0]} says nothing about a system like this",
            hint="Leave it out, or change the answers before it.",
            field=unasked[0],
        )
    return said


def draft(given: Answers, network: NetworkPolicy | None = None) -> tuple[str, Report]:
    """The document, and what `keyturn definitions check` says of it, which is never a refusal.

    Raises: InvalidInput as `complete`, or with the first finding when the answers do not fit together.
    """
    said = complete(given)
    body = yaml.safe_dump(_document(said), sort_keys=False, allow_unicode=True, width=110)
    text = "# Drafted by `keyturn definitions new`. Read it, then `keyturn definitions check`.\n" + body
    report = check(text, f"{said['id']}.yaml", network)
    refused = next((f for f in report.findings if f.level == "refuse"), None)
    if refused is not None:
        raise InvalidInput(
            f"the answers do not fit together: {refused.field} {refused.message}",
            hint=refused.fix,
            field=refused.field,
        )
    return text, report


def write(path: Path, text: str, *, force: bool = False) -> None:
    """Writes the draft, whole or not at all. Raises: Conflict when there is a file, InvalidInput when it cannot be."""
    if path.exists() and not force:
        raise Conflict(f"{path} is there already", hint="Name another file, or add --force.", field="file")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidInput(
            f"cannot write {path} ({error.strerror})", hint="Check the folder.", field="file"
        ) from None


_ADDRESSES = (
    "address",
    "authorize_url",
    "token_url",
    "revoke_url",
    "test_path",
    "create_path",
    "list_path",
    "sample_path",
)
_THROTTLED = {
    "when": {"status": [429]},
    "class": "rate_limited",
    "wait": {"header": "Retry-After", "as": "seconds"},
}
_FAILED = {"when": {"status_from": 500}, "class": "transient"}
_LOCKED_S = 900  # over how long refusals are counted, where a system says how many but not for how long


# -- the document ----------------------------------------------------------------------------------------------------------


def _document(said: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {"schema": "rest-credential/v1", "id": said["id"], "title": said["title"]}
    if said["docs"]:
        found["docs"] = said["docs"]
    inputs = _inputs(said)
    if inputs:
        found["inputs"] = inputs
    found |= {"hosts": said["hosts"].split(), "base_url": _filled(said["address"])}
    asks = {"method": "GET", "path": _filled(said["test_path"])}
    if said["auth"] == "none":
        found |= {
            "auth": {"kind": "none"},
            "test": {
                "request": asks,
                **_success(said),
                "identity": {"none": "A public address knows nobody"},
            },
            "errors": [_THROTTLED, _FAILED],
        }
        return found | _sample(said)
    found |= {
        **_credential(said),
        "auth": _auth(said),
        "test": {
            "request": asks,
            **_success(said),
            "identity": {"none": "The answer tells nobody"}
            if said["who"] == "none"
            else {"principal": {"json": said["who"]}},
            "negative_control": {"mode": "required"},
        },
        "errors": _errors(said),
    }
    if said.get("list_path"):
        found["discover"] = {
            "request": {"method": "GET", "path": _filled(said["list_path"])},
            "items": said["list_items"],
            "id": said["list_id"],
            **({"label": said["list_name"]} if said["list_name"] != "none" else {}),
        }
    found |= _sample(said)
    if said["auth"] == "basic" and not _beside(said):
        found["principal"] = ["user", *inputs]  # typed with each new password, and the same user each time
    found["rotation"] = {**_rotation(said), "propagation": _settling(said)}
    if not (_by_hub(said) and _beside(said)):
        found["manual"] = _manual(said)
    return found


def _success(said: Answers) -> dict[str, Any]:
    """What an answer must have to count, where no account in it shows that it is one."""
    if "always" not in said:
        return {}
    return {"success": [{"status": {"in": [200]}}, {"json": {"path": said["always"], "exists": True}}]}


def _credential(said: Answers) -> dict[str, Any]:
    """The parts that are stored, how many at once, and when one is due."""
    days = int(said["days"])
    rest: dict[str, Any] = {
        "expiry": {"policy_days": days} if days else {"none": "The vendor sets no limit"},
    }
    if int(said["locks_after"]):
        rest["lockout"] = {"max_failures": int(said["locks_after"]), "window_s": _LOCKED_S}
    if said["auth"] == "consent":
        client = {
            "client_id": _part("client_id", "Client id", secret=False),
            "client_secret": _part("client_secret", "Client secret"),
        }
        return {"admin": {"parts": client}, "credential": {"overlap": {"supported": True}, **rest}}
    secret, handle, secret_title, handle_title = _PARTS[said["auth"]]
    parts: dict[str, Any] = {secret: _part(secret, secret_title)}
    if said["auth"] in {"basic", "client"} or (_by_hub(said) and _beside(said)):
        parts[handle] = _part(handle, handle_title, secret=False)
    overlap = {"supported": True} if _beside(said) else {"supported": False, "max_active": 1}
    return {"credential": {"parts": parts, "overlap": overlap, **rest}}


def _part(name: str, title: str, *, secret: bool = True) -> dict[str, Any]:
    return {"secret": secret, "title": title, "help": _HELP[name], "trim": True}


def _sample(said: Answers) -> dict[str, Any]:
    """What jobs may read a piece of, where something was named."""
    if not said["sample_path"]:
        return {}
    request = {"method": "GET", "path": _filled(said["sample_path"])}
    limit = {"limit_param": said["sample_limit"]} if said["sample_limit"] else {}
    return {"sample": {"list": {"request": request, "items": said["sample_items"], **limit}}}


def _settling(said: Answers) -> dict[str, Any]:
    seconds = int(said["settles"])
    return {"every_s": 2, "for_s": seconds, "revoke_s": seconds, "consecutive": 1}


def _inputs(said: Answers) -> dict[str, Any]:
    host = urlsplit(said["address"]).netloc
    named = dict.fromkeys(name for key in _ADDRESSES for name in _NAME.findall(said.get(key, "")))
    return {
        name: {
            "title": name.replace("_", " ").capitalize(),
            "pattern": "^[A-Za-z0-9-]{1,63}$" if f"{{{name}}}" in host else "^[A-Za-z0-9._~-]{1,100}$",
        }
        for name in named
    }


def _filled(text: str) -> str:
    return _NAME.sub(r"${input.\1}", text)


def _auth(said: Answers) -> dict[str, Any]:
    kind = said["auth"]
    if kind == "basic":
        return {"kind": "basic", "username": "${secret.user}", "password": "${secret.password}"}
    if kind in {"client", "consent"}:
        scope = {"scope": said["scope"].split()} if said["scope"] else {}
        common = {"token_url": _filled(said["token_url"]), **scope}
        return {"kind": "oauth2_cc", **common} if kind == "client" else {**_grant(said), **common}
    secret = _PARTS[kind][0]
    if kind == "bearer":
        return {"kind": "bearer", "token": f"${{secret.{secret}}}"}
    place = [{"in": kind, "name": said["carrier"], "format": f"${{secret.{secret}}}"}]
    return {"kind": "api_key", "place": place, **({"allow_secret_in_url": True} if kind == "query" else {})}


def _grant(said: Answers) -> dict[str, Any]:
    """A person's consent, and how its refresh tokens live."""
    idle = {"idle_days": int(said["idle_days"])} if int(said["idle_days"]) else {}
    found: dict[str, Any] = {
        "kind": "oauth2_code",
        "authorize_url": _filled(said["authorize_url"]),
        # One that never changes is used for each test, which proves the grant itself and not a token that lives on.
        "refresh": {
            "rotates": said["rotates"],
            **idle,
            **({"before_test": True} if said["rotates"] == "never" else {}),
        },
        "grant_shared_per_user_and_app": said["shared"] == "yes",
    }
    if said["revoke_url"]:
        found["revoke"] = {"url": _filled(said["revoke_url"]), "token": "refresh_token"}
    return found


def _errors(said: Answers) -> list[dict[str, Any]]:
    refused = int(said["refused"])
    found: list[dict[str, Any]] = [{"when": {"status": [refused]}, "class": "credential_invalid"}]
    if refused != 403:
        found.append({"when": {"status": [403]}, "class": "permission"})
    if refused != 429:
        found.append(_THROTTLED)
    found.append(_FAILED)
    return found


def _rotation(said: Answers) -> dict[str, Any]:
    death: dict[str, Any] = {"with": "retiring", "expect": {"class": "credential_invalid"}}
    if said["auth"] == "consent":
        if said["rotates"] == "never":
            death["expect"] = {"class": "reauth_required"}
        also = {"also": ["refresh_fails"]} if said["rotates"] == "always" else {}
        return {"mode": "reconsent", "dead_check": {**death, **also}}
    secret, handle, _, _ = _PARTS[said["auth"]]
    if said.get("list_path"):
        death["also"] = ["listed_absent"]
    if not _by_hub(said):
        return {"mode": "manual", "dead_check": death}
    extract = {secret: {"json": said["value"]}}
    create: dict[str, Any] = {
        "request": {"method": "POST", "path": _filled(said["create_path"])},
        "extract": extract,
    }
    if not _beside(said):
        return {"mode": "in_place", "create": create, "dead_check": death}
    create["request"]["json"] = {"name": "keyturn ${job.marker}"}
    extract[handle] = {"json": said["handle"]}
    ended = _filled(said["delete_path"].replace("{id}", "\0")).replace(
        "\0", f"${{retiring.{handle}|urlencode}}"
    )
    return {
        "mode": "create_then_revoke",
        # A mark that no list shows finds nothing.
        "create": {
            **create,
            "handle": handle,
            **({"marker_field": "name"} if said.get("list_name", "none") != "none" else {}),
        },
        "revoke": {"request": {"method": "DELETE", "path": ended}},
        "dead_check": death,
    }


def _manual(said: Answers) -> dict[str, Any]:
    if said["auth"] == "consent":
        found: dict[str, Any] = {
            "effect": "overlap",
            "create_steps": [{"text": "Open the consent page from the task and allow it"}],
        }
        return {**found, "revoke_steps": [{"text": said["how_ended"]}]} if _by_consent(said) else found
    beside, secret, handle = _beside(said), *_PARTS[said["auth"]][:2]
    found = {"effect": "overlap" if beside else "old_dies_immediately", "requires_pause": not beside}
    if not _by_hub(said):
        found["create_steps"] = [{"text": said["how_made"]}]
        found["paste_fields"] = [secret, *([handle] if said["auth"] in {"basic", "client"} else [])]
    return {**found, "revoke_steps": [{"text": said["how_ended"]}]}
