"""The master key: which keys are loaded, what each wraps, a newer one, and wrapping anew. No key ever reaches a page."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import KeyturnError
from keyturn.operations import vault
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit


def show(it: Visit) -> Response:
    """Keys, newest first, with the rows that each wraps."""
    found = vault.status(it.hub)
    return it.render(
        "vault.html",
        found=found,
        older=sum(rows for _, rows in found.keys[1:]),
        may_rotate=it.may(Operation.VAULT_ROTATE),
    )


def rotate(it: Visit) -> Response:
    """A newer key, and every row under it."""
    if it.text("sure") != "yes":
        return it.redirect("/vault", "Say first that you can back the new key up.", "bad")
    return _rewrap(it, new_key=True)


def rewrap(it: Visit) -> Response:
    """No key: what is under an older one goes under the newest that is there."""
    return _rewrap(it, new_key=False)


def _rewrap(it: Visit, *, new_key: bool) -> Response:
    try:
        key, rows = vault.rotate_kek(it.hub, new_key=new_key, address=it.address)
    except KeyturnError as error:  # a source that cannot be written says how a key is added by hand
        return it.redirect("/vault", f"{words.sentence(error.message)} {error.hint}", "bad")
    told = f"{rows} rows are now under {key}."
    return it.redirect("/vault", f"{told} Back {vault.status(it.hub).source} up again." if new_key else told)
