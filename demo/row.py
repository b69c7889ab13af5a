"""What one row of the demo is: the words a person would type, with the lab's addresses filled in."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFINITIONS = Path(__file__).parent / "definitions"


@dataclass(frozen=True)
class Row:
    """One connection of the demo. `secret` values go to the CLI through environment variables, never arguments."""

    name: str
    system: str
    method: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, str] = field(default_factory=dict)
    definition: Path | None = None
    every_s: float = 0.2  # how often its consumer logs in afresh
    owes: str = ""  # the kind of debt that a rotation honestly leaves at this vendor

    @property
    def is_public(self) -> bool:
        """Whether there is no credential, so that nothing is rotated."""
        return self.method == "none"


def url_of(task: Mapping[str, Any]) -> str:
    """The address a task's instructions send the person to."""
    return next(str(each["url"]) for each in task["instructions"] if each.get("url"))


def post(url: str, body: Any) -> Any:
    """Sends JSON to one of the lab's own doors."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def get(url: str) -> Any:
    """Reads JSON from one of the lab's own doors."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())
