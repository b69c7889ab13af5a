"""The server that takes our mail."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Post:
    """As the operator set it. `tls`: `starttls` (usually port 587), `tls` (465), or `none`, for a server on the same
    machine, to which a password is never sent."""

    host: str
    port: int
    sender: str
    tls: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
