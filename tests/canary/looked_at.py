"""What an administrator can see: every page that a link leads to, and every answer of the API that is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from keyturn.api.app import create_app
from keyturn.bootstrap import Keyturn
from keyturn.operations import people, rights
from tests.canary.secrets import Named

PASSWORD = "ktlab-plum-orbit-kettle-42"
_LINK = re.compile(r'href="(/[^"#]*)')
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
# streams that never end, files without secrets, and the one page that shows its reader a secret of their own
_NOT = re.compile(r"^/(live|static|sign-out|account/second-factor)|/stream$|/openapi.json$")
_MOST = 3  # of each kind of thing the API is asked about


def look(hub: Keyturn, out: Path) -> Iterator[Named]:
    """Signs in, follows links, asks the API; what was answered is in `pages.txt` and `answers.txt`.

    What this person gave and got is told: it must be nowhere else.
    """
    me = rights.local("canary")
    invited = people.invite(hub, me, "ada", "Ada Marsh", [("admin", "")])
    people.accept(hub, invited.code.reveal(), PASSWORD)
    robot = people.add_service(hub, me, "robot", "Robot", [("admin", "")])
    _, token = people.make_token(hub, me, robot.id, "canary", rights.SCOPES)
    yield from (("a person's password", PASSWORD), ("an invitation", invited.code.reveal()))
    yield "a service's token", token.reveal()
    with TestClient(create_app(hub), base_url=hub.settings.public_url, follow_redirects=False) as client:
        _answers(client, token.reveal(), out / "answers.txt")
        _pages(client, out / "pages.txt")


def _pages(client: Any, out: Path) -> None:
    form = client.get("/sign-in").text
    found = _CSRF.search(form)
    assert found is not None
    typed = {"csrf": found[1], "login": "ada", "password": PASSWORD}
    assert client.post("/sign-in", data=typed).status_code == 303
    waiting, seen = ["/"], set[str]()
    with out.open("w") as file:
        while waiting:
            path = waiting.pop(0)
            kind = re.sub(r"[a-z]{3}_[0-9a-z]{20,}", "*", path)
            if path in seen or _NOT.search(path) or sum(each.endswith(kind) for each in seen) > 2 * _MOST:
                continue
            seen |= {path, f"{len(seen)} {kind}"}
            answer = client.get(path)
            file.write(f"\nGET {path} {answer.status_code}\n{answer.text}\n")
            waiting += [link.replace("&amp;", "&") for link in _LINK.findall(answer.text)]


def _answers(client: Any, token: str, out: Path) -> None:
    described = client.get("/api/v1/openapi.json").json()["paths"]
    headers = {"Authorization": f"Bearer {token}"}
    with out.open("w") as file:

        def ask(path: str) -> Any:
            answer = client.get(path, headers=headers)
            file.write(f"\nGET {path} {answer.status_code}\n{answer.text}\n")
            return answer

        ids = _ids(ask, described)
        for path, calls in described.items():
            if "get" not in calls or _NOT.search(path):
                continue
            names = re.findall(r"\{(\w+)\}", path)
            for values in product(*(ids.get(name, ["none"])[:_MOST] for name in names)):
                ask(path.format(**dict(zip(names, values, strict=True))))


def _ids(ask: Any, described: Any) -> dict[str, list[str]]:
    """What there is, by the name that paths give it: `/runs/{run_id}` is asked about what `/runs` lists."""
    found = {"goal": ["rotate", "disconnect", "contain"]}
    for path in described:
        plural, _, name = path.rpartition("/")
        if re.fullmatch(r"\{\w+\}", name) and "{" not in plural and "get" in described.get(plural, {}):
            items = ask(plural).json().get("items", [])
            found[name[1:-1]] = [str(each.get("id") or each.get("system")) for each in items]
    return found
