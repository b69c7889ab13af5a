"""What goes to the terminal: results to stdout, everything else to stderr, colours only where a person looks.

Errors become messages and exit codes here and nowhere else.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

import click

from keyturn.errors import InvalidInput, KeyturnError

_ESCAPE = re.compile(r"\x1b(?!\[[0-9;]*m)")  # every escape but a colour
_SHORT = 32  # a cell of this length is never broken: it is an id or a name
C = TypeVar("C", bound=Callable[..., Any])


class Exit(IntEnum):
    """What a command's exit code means."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    PERSON = 3  # waits for a person, or for a time longer than we were told to wait
    ATTENTION = 4  # a debt, a blocked or a lost run


_ORDER = (Exit.DONE, Exit.PERSON, Exit.FAILED, Exit.BAD_INPUT, Exit.ATTENTION)


def worst(codes: Sequence[Exit]) -> Exit:
    """The one exit code of several results."""
    return max(codes, key=_ORDER.index, default=Exit.DONE)


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def is_interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def has_colours() -> bool:
    """On a terminal that is not dumb, unless NO_COLOR says no (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_marks() -> bool:
    """Whether the output can show ticks and dots."""
    return "utf" in (getattr(sys.stdout, "encoding", "") or "").lower()


def style(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
    """Coloured text where there are colours."""
    if not has_colours():
        return text
    return click.style(text, fg=colour, bold=bold or None, dim=dim or None)


def say(text: str = "") -> None:
    """A line of the result."""
    click.echo(clean(text))


def note(text: str) -> None:
    """A line beside the result."""
    click.echo(clean(text), err=True)


def clean(text: str) -> str:
    """Without control characters: what a vendor calls something must not move the cursor. Colours stay on a terminal."""
    if not has_colours():
        return _bare(click.unstyle(text))
    return "".join(c for c in _ESCAPE.sub("", text) if c >= " " or c in "\n\t\x1b")


def _bare(text: str) -> str:
    return "".join(c for c in text if c >= " " or c in "\n\t")


def emit(value: Any) -> None:
    """One JSON value on one line; on a terminal indented."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str, indent=2 if is_terminal() else None))


def heading(text: str) -> None:
    """A title above what belongs together."""
    say()
    say(style(text, bold=True))


def pairs(rows: Mapping[str, object] | Sequence[tuple[str, object]], indent: str = "") -> None:
    """Names and values below each other; empty values are left out."""
    listed = [
        (k, str(v)) for k, v in (rows.items() if isinstance(rows, Mapping) else rows) if v not in {None, ""}
    ]
    width = max((len(k) for k, _ in listed), default=0)
    for name, value in listed:
        say(f"{indent}{style(name.ljust(width), dim=True)}  {value}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "Nothing.") -> None:
    """A table: drawn for people, aligned words for pipes, where nothing is cut off."""
    if not rows:
        say(empty)
        return
    cells = [[str(cell) if cell is not None else "" for cell in row] for row in rows]
    if is_terminal() and _drawn(columns, cells):
        return
    lines = [[c.upper() for c in columns], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _drawn(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
    """Draws the columns that hold something; False when the terminal is too narrow to keep ids and names whole."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color=not has_colours(), highlight=False)
    kept = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    widest = {i: max(len(columns[i]), *(len(row[i]) for row in cells)) for i in kept}
    if sum(min(width, _SHORT) + 3 for width in widest.values()) > console.width:
        return False
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for i in kept:
        drawn.add_column(columns[i], overflow="fold", no_wrap=widest[i] <= _SHORT)
    for row in cells:
        drawn.add_row(*(Text(_bare(row[i])) for i in kept))
    console.print(drawn)
    return True


def examples(*lines: str) -> str:
    """A help page's last paragraph, one example a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: C) -> C:
    """`--json`, remembered so that errors are JSON too."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON for programs.",
        callback=lambda ctx, _, value: ctx.find_root().meta.__setitem__(__name__, value) or value,
    )(command)


def expect_json(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Remembers `--json` before a command has read its arguments, so that what is wrong with these is said in JSON too."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    ctx.find_root().meta[__name__] = "--json" in ours


def confirm(names: Sequence[str], what: str, *, yes: bool) -> None:
    """A step that cannot be undone: the name is typed, or `--yes` was given. Raises: InvalidInput, click.Abort."""
    if yes:
        return
    if not is_interactive():
        raise InvalidInput(
            f"{what} cannot be undone and nobody can be asked here",
            hint="Look at `keyturn plan` first, then add --yes.",
            field="--yes",
        )
    for name in names:
        note(f"{what} cannot be undone.")
        if click.prompt(f"Type {name} to go on", default="", show_default=False, err=True).strip() != name:
            note("That is another name: nothing was started.")
            raise click.Abort


def accept(risk: str, words: str, said: Sequence[str]) -> tuple[str, ...]:
    """What was said, and what is typed now to accept a risk; `--yes` does not do it. Where nobody can be asked, whoever
    starts the run refuses it. Raises: click.Abort."""
    from keyturn.model.plan import says

    if not words or any(says(each, words) for each in said) or not is_interactive():
        return tuple(said)
    note(risk)
    typed = str(click.prompt(f"Type '{words}' to go on", default="", show_default=False, err=True))
    if not says(typed, words):
        note("Those are other words: nothing was started.")
        raise click.Abort
    return (*said, typed)


def failed(error: Exception) -> int | None:
    """Says what went wrong and returns the exit code; None for what click itself reports.

    Our own errors are safe to show. Of anything else only the type and the place in our code are shown: its text may
    hold what must not be seen.
    """
    if isinstance(error, KeyturnError):
        _report(type(error).__name__, error.message, error.hint, error.facts)
        return error.exit_code
    if isinstance(error, click.UsageError) and _wants_json():
        usage = f"`{error.ctx.command_path} --help` tells how it is used." if error.ctx else ""
        _report("InvalidInput", error.format_message(), usage, {})
        return Exit.BAD_INPUT
    if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
        return None
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return None
        if error.strerror:
            said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            _report("OSError", said, "Check the path, its owner, its mode and the free space.", {})
            return Exit.FAILED
    import traceback

    place = traceback.extract_tb(error.__traceback__)
    ours = next((f for f in reversed(place) if "keyturn" in f.filename), place[-1] if place else None)
    where = f" at {os.path.basename(ours.filename)}:{ours.lineno}" if ours else ""
    _report(
        "InternalError",
        f"internal error ({type(error).__name__}{where})",
        "This is a defect in Keyturn. What serves now was not changed by this message; see `keyturn runs`.",
        {},
    )
    return Exit.FAILED


def _wants_json() -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.find_root().meta.get(__name__))


def _report(kind: str, message: str, hint: str, facts: Mapping[str, Any]) -> None:
    if _wants_json():
        said = {"error": kind, "message": message, "hint": hint, "facts": dict(facts)}
        click.echo(json.dumps(said, ensure_ascii=False, default=str), err=True)
        return
    field = str(facts.get("field", ""))
    where = f" ({field})" if field and field not in message else ""
    colour = sys.stderr.isatty() and has_colours()
    head = click.style("Error:", fg="red", bold=True) if colour else "Error:"
    click.echo(f"{head} {_bare(message)}{where}", err=True)
    if hint:
        click.echo(f"  {_bare(hint)}", err=True)
