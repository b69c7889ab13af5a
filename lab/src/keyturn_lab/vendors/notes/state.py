"""What Acme Notes remembers: accounts, each with one user's password and any number of keys; no HTTP."""

import itertools
import threading
from dataclasses import dataclass

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live


@dataclass
class Password:
    value: str
    life: Lifespan


@dataclass
class Key:
    id: str
    account: str
    name: str
    secret: str
    born_at: float
    life: Lifespan


class Notebook:
    """All accounts of Acme Notes. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.accounts = ("acme", "globex")
            self._ids = itertools.count(1)
            self._keys: list[Key] = []
            self._passwords: dict[str, list[Password]] = {account: [] for account in self.accounts}
            for account in self.accounts:
                self.set_password(account)
                self.make_key(account, "first key")

    def alive(self) -> list[Live]:
        with self._lock:
            now = self._clock.now()
            return [
                *(
                    Live(f"{account}/password", "password", account, each.value)
                    for account, known in self._passwords.items()
                    for each in known
                    if each.life.holds(now)
                ),
                *(
                    Live(key.id, "key", key.account, key.secret, {"name": key.name})
                    for key in self._keys
                    if key.life.holds(now)
                ),
            ]

    def by_password(self, user: str, password: str) -> str | None:
        """The account whose user this is, if the password is in force."""
        with self._lock:
            now = self._clock.now()
            known = self._passwords.get(user.removeprefix("robot@"), [])
            fits = any(each.value == password and each.life.holds(now) for each in known)
            return user.removeprefix("robot@") if fits else None

    def by_key(self, secret: str) -> str | None:
        """The account of a key in force."""
        with self._lock:
            now = self._clock.now()
            return next((k.account for k in self._keys if k.secret == secret and k.life.holds(now)), None)

    def set_password(self, account: str) -> str:
        """A new password for the account's user; the old one ends with it."""
        with self._lock:
            now = self._clock.now()
            for old in self._passwords[account]:
                old.life.end(self._quirks.dead_from(now))
            made = Password(guard.mint("notes_password", 24), Lifespan(self._quirks.known_from(now)))
            self._passwords[account].append(made)
            return made.value

    def block(self, account: str) -> None:
        """Take the account's user every password: nobody signs in as it any more."""
        with self._lock:
            for each in self._passwords[account]:
                each.life.end(self._quirks.dead_from(self._clock.now()))

    def keys(self, account: str) -> list[Key]:
        """The account's keys, as the list shows them."""
        with self._lock:
            return [key for key in self._keys if key.account == account and not key.life.is_doomed()]

    def make_key(self, account: str, name: str) -> Key:
        """One more key."""
        with self._lock:
            now = self._clock.now()
            life = Lifespan(self._quirks.known_from(now))
            key = Key(f"k{next(self._ids)}", account, name, guard.mint("notes_key", 32), now, life)
            self._keys.append(key)
            return key

    def end_key(self, account: str, key_id: str) -> bool:
        """End a key of the account's own; False when there is none of that id."""
        with self._lock:
            found = next((key for key in self.keys(account) if key.id == key_id), None)
            if found is not None:
                found.life.end(self._quirks.dead_from(self._clock.now()))
            return found is not None
