"""What a program may do about its own credential: have it reissued. It can never widen what the credential may do."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from keyturn.api.calls import Body
from keyturn.api.door import Door
from keyturn.api.issued import handed
from keyturn.api.problems import Refused
from keyturn.bootstrap import Keyturn
from keyturn.model.ids import new_id
from keyturn.operations import issued

SCOPE = "self:rotate"
_HOUR_S = 3600.0  # whoever stole it must not be able to end it under its owner's hands


class Again(Body):
    """Both work at least `overlap_s`, from an hour to 30 days."""

    overlap_s: Annotated[float, Field(ge=_HOUR_S, le=issued.LONGEST_OVERLAP_S)] = issued.OVERLAP_S
    reason: Annotated[str, Field(max_length=300)] = ""


def routes(hub: Keyturn, door: Door) -> APIRouter:
    """Needs the scope `self:rotate`, which somebody has to give a credential on purpose."""
    router = APIRouter(prefix="/api/v1", tags=["credentials"])

    @router.post("/whoami/reissue", summary="Reissue the presented credential", status_code=201)
    async def reissue(request: Request, body: Again | None = None) -> Response:
        """A second secret beside the presented one, with the same rights; its value is in this answer and nowhere else. The
        presented one ends after the overlap, once the new one was used. The same `Idempotency-Key` within ten minutes gives
        the same answer."""
        found = await door.enter_fast(request, SCOPE)
        secret, asked = found.secret, body or Again()
        if secret is None:
            raise Refused(403, "cred.scope", "only what this hub issued can reissue itself")
        key = request.headers.get("idempotency-key") or new_id("api")
        trigger = f"self:{secret.version_id}:{sha256(key.encode()).hexdigest()[:32]}"
        made = await run_in_threadpool(
            lambda: issued.reissue(
                hub,
                secret.connection_id,
                asked.overlap_s,
                reason=asked.reason,
                trigger=trigger,
                who=f"key:{found.name}",
            )
        )
        return await run_in_threadpool(handed, hub, made)

    return router
