"""Listens to every log record at DEBUG and to every exception, and tells whether a secret was in one of them."""

from __future__ import annotations

import logging
import pickle
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from keyturn.errors import KeyturnError
from keyturn.model.secret import Material
from keyturn.testing.traces import traces

# What an operator who hunts a fault turns on. A level that a transport set on purpose, because its library prints
# secrets below it, is part of what is tested and stays.
LOUD = ("boto3", "botocore", "httpx", "httpx2", "keyturn", "psycopg", "psycopg.pool", "snowflake", "urllib3")


class Witness(logging.Handler):
    """What one check heard. `tell` it every secret as soon as it exists; it looks back over all it has heard."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.secrets: list[str] = []
        self.heard: list[str] = []

    def tell(self, *known: Material | str | None) -> None:
        """Secrets to look for: whole materials, or single texts."""
        for each in known:
            if isinstance(each, Material):
                self.secrets += each.secrets()
            elif each:
                self.secrets.append(each)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the formatted record and its raw arguments: another handler may print those."""
        with suppress(Exception):
            self.heard.append(self.format(record))
        self.heard.append(repr(record.__dict__))

    def saw(self, error: BaseException) -> None:
        """Keeps all that a log, a store or a person could be shown of an exception, its causes included."""
        assert isinstance(error, KeyturnError), (
            f"{type(error).__name__} left the connector; it is not Keyturn's"
        )
        self.heard += traceback.format_exception(error)
        self.heard += [repr(error), str(error), repr(error.facts), error.hint]
        self.heard.append(pickle.dumps(error).decode("latin-1"))
        cause: BaseException | None = error
        for _ in range(10):
            cause = cause.__cause__ or cause.__context__ if cause is not None else None
            if cause is not None:
                self.heard += [repr(cause), repr(cause.args)]

    def keep(self, *shown: object) -> None:
        """Keeps what may be shown of a value: its repr."""
        self.heard += [repr(each) for each in shown]

    @contextmanager
    def listening(self) -> Iterator[Witness]:
        """Every logger at DEBUG, warnings included, for the length of the block; then nothing may have leaked."""
        loggers = [logging.getLogger(name) for name in (None, *LOUD)]
        before = [(each, each.level) for each in loggers]
        loggers[0].addHandler(self)
        for each in loggers:
            if each.level == logging.NOTSET or each is loggers[0]:
                each.setLevel(logging.DEBUG)
        try:
            with warnings.catch_warnings(record=True) as warned:
                yield self
            self.heard += [str(each.message) for each in warned]
        finally:
            for each, level in before:
                each.setLevel(level)
            loggers[0].removeHandler(self)
        self.check()

    def check(self, more: Iterable[str] = ()) -> None:
        """Raises: AssertionError, naming the place but not the secret."""
        for text in (*self.heard, *more):
            found = traces(self.secrets, text.encode("utf-8", "surrogateescape"))
            assert not found, f"a secret ({found[0]}) is in: {_without(text, self.secrets)[:400]}"


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "[SECRET]")
    return text
