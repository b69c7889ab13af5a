"""The filter at the end of a SHOW: LIKE, STARTS WITH, LIMIT .. FROM.

Source: docs.snowflake.com sql-reference/sql/show-users.
"""

from collections.abc import Callable, Sequence

from .lexer import Cursor
from .wire import Row


def listing(cursor: Cursor) -> Callable[[Sequence[Row]], tuple[Row, ...]]:
    """Reads LIKE, STARTS WITH and LIMIT .. FROM, and gives the filter they describe; column 0 is the name."""
    like, starts, limit, after = None, "", 10_000, ""
    if cursor.accept("LIKE"):
        like = cursor.string().upper()
    if cursor.accept("STARTS", "WITH"):
        starts = cursor.string()
    if cursor.accept("LIMIT"):
        limit = int(cursor.value())
        if cursor.accept("FROM"):
            after = cursor.string()
    cursor.end()

    def chosen(rows: Sequence[Row]) -> tuple[Row, ...]:
        kept = [
            row
            for row in rows
            if (like is None or is_like(str(row[0]).upper(), like))
            and str(row[0]).startswith(starts)
            and str(row[0]) > after
        ]
        return tuple(kept[:limit])

    return chosen


def is_like(text: str, pattern: str) -> bool:
    """SQL LIKE: `%` any run, `_` any one; a backslash takes the next letter as it is."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(is_like(text[i:], pattern[1:]) for i in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        return text[:1] == pattern[1] and is_like(text[1:], pattern[2:])
    return bool(text) and pattern[0] in ("_", text[0]) and is_like(text[1:], pattern[1:])
