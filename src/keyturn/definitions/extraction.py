"""Takes declared values out of an answer and counts them: one, optional or many. Quotes nothing of the answer."""

from __future__ import annotations

from typing import Any

from keyturn.definitions.expressions import Scopes, as_text
from keyturn.definitions.model import Extract
from keyturn.definitions.patterns import compiled
from keyturn.errors import UnexpectedAnswer
from keyturn.transport.http import Answer

SEARCHED = 65_536


def many(source: Extract, answer: Answer, scopes: Scopes) -> tuple[str, ...]:
    """Every value, as text. Raises: UnexpectedAnswer when one is not a plain value."""
    if source.value is not None:
        text = source.value.render(scopes)
        return tuple(filter(None, text.split(source.split))) if source.split else (text,)
    if source.status:
        return (str(answer.status),)
    if source.header:
        found = answer.header(source.header)
        return (found,) if found else ()
    if source.text_regex:
        pattern = compiled(source.text_regex)
        hit = pattern.search(answer.text()[:SEARCHED]) if pattern is not None else None
        return (hit.group(1),) if hit and hit.group(1) else ()
    values = source.json.select(answer.json()) if source.json is not None else []
    texts = (_text(source, v, answer) for v in values if v is not None and v != "")
    return tuple(
        piece for text in texts for piece in (text.split(source.split) if source.split else [text]) if piece
    )


def one(source: Extract, answer: Answer, scopes: Scopes, what: str) -> str:
    """The single value; empty when it is optional and absent. Raises: UnexpectedAnswer."""
    found = many(source, answer, scopes)
    if len(found) == 1 or (found and source.cardinality == "many"):
        return found[0]
    if not found and source.cardinality == "optional":
        return ""
    raise UnexpectedAnswer(
        f"{answer.host or 'the vendor'} told {'no' if not found else 'more than one'} {what}",
        hint="Compare the definition's path with the vendor's documentation.",
        status=answer.status,
        host=answer.host,
    )


def _text(source: Extract, value: Any, answer: Answer) -> str:
    plain = isinstance(value, str | int | float)
    if not plain or (source.type == "string" and not isinstance(value, str)):
        raise UnexpectedAnswer(
            f"{answer.host or 'the vendor'} answered with a value of another type than declared",
            status=answer.status,
            host=answer.host,
        )
    if source.type == "int" and not (isinstance(value, int) or str(value).isdigit()):
        raise UnexpectedAnswer(
            f"{answer.host or 'the vendor'} answered with something that is no whole number"
        )
    return as_text(value)
