"""Who signs what is done at a server: the administrator where the connection has one, else the credential itself."""

from __future__ import annotations

import time
from dataclasses import replace

from keyturn.contract.values import Access
from keyturn.errors import PermissionMissing
from keyturn.model.secret import Material


def admin_of(access: Access) -> tuple[str, str] | None:
    """The administrator's user and password, where the connection has one."""
    if access.admin is None:
        return None
    user, password = _part(access.admin, "user"), _part(access.admin, "password")
    return (user, password) if user and password else None


def need_admin(access: Access, right: str, why: str, grant: str) -> tuple[str, str]:
    """The administrator. Raises: PermissionMissing with what to grant."""
    found = admin_of(access)
    if found is None:
        raise PermissionMissing(why, hint=f"Give admin_user and admin_password: {grant}", right=right)
    return found


def own(access: Access, right: str) -> Material:
    """The credential that acts for itself. Raises: PermissionMissing when there is none either."""
    if access.acting is None:
        raise PermissionMissing(
            "this needs a credential to act with", hint="Give admin_user and admin_password.", right=right
        )
    return access.acting


def within(access: Access, until: float) -> Access:
    """The same access with what is left of its time, at least a moment; `until` is of the monotonic clock."""
    return replace(access, deadline_s=max(until - time.monotonic(), 0.05))


def _part(material: Material, name: str) -> str:
    return material.get(f"admin_{name}") or material.get(name) or ""
