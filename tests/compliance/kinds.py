"""The kinds that the hub issues and checks itself, and what their forms ask for."""

from __future__ import annotations

from keyturn.bootstrap import Keyturn
from keyturn.issued import kinds
from keyturn.issued.kinds import Kind

OURS = [kind for kind in kinds.KINDS if kind.is_ours_to_check]
_VALUES = {
    "scopes": "read",
    "callback_urls": "https://portal.example.com/back",
    "contact": "ops@example.com",
    "workspace": "acme",
}


def needed(hub: Keyturn, kind: Kind) -> dict[str, str]:
    """What has to be filled in to issue one."""
    fields = hub.catalog.method(kind.system, kind.method).fields
    return {f.name: _VALUES[f.name] for f in fields if f.required and f.default is None}
