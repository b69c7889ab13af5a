"""What an owner of an application does in the Entra portal: add a secret, upload a certificate."""

import base64
import json
import urllib.request
from typing import Any


def add_secret(url: str, app_id: str, label: str = "by hand") -> str:
    """The value, which the portal shows once."""
    return str(_portal(url, {"app_id": app_id, "secret": label})["secret"])


def upload_certificate(url: str, app_id: str, der: bytes) -> None:
    """Puts the public half onto the application, beside what is there."""
    _portal(url, {"app_id": app_id, "certificate": base64.b64encode(der).decode()})


def _portal(url: str, body: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/_lab/apps", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found
