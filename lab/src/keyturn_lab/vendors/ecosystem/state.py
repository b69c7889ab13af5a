"""What the pretended Ecosystems remembers: accounts and their keys; no HTTP."""

import itertools
import threading
from dataclasses import dataclass

from keyturn_lab import guard
from keyturn_lab.clock import Clock, Lifespan
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Live


@dataclass
class Settings:
    """What a test may change; nothing of it is documented by the vendor."""

    header: str = "Authorization"
    prefix: str = "Bearer"
    refused_with: int = 401
    several_keys: bool = False
    names_account: bool = True


@dataclass
class Key:
    id: int
    account: str
    name: str
    value: str
    life: Lifespan


class Platform:
    """All accounts of the pretended Ecosystems. Safe to share between threads."""

    def __init__(self, clock: Clock, quirks: Quirks) -> None:
        self._clock = clock
        self._quirks = quirks
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.settings = Settings()
            self.accounts = ("acme", "globex")
            self._ids = itertools.count(1)
            self._keys: list[Key] = []

    def alive(self) -> list[Live]:
        with self._lock:
            now = self._clock.now()
            return [
                Live(str(key.id), "access_key", key.account, key.value, {"name": key.name})
                for key in self._keys
                if key.life.holds(now)
            ]

    def account_of(self, value: str) -> str | None:
        """The account behind a key in force."""
        with self._lock:
            now = self._clock.now()
            return next((k.account for k in self._keys if k.value == value and k.life.holds(now)), None)

    def keys(self, account: str) -> list[Key]:
        """The account's keys, as its administrator sees them."""
        with self._lock:
            return [key for key in self._keys if key.account == account and not key.life.is_doomed()]

    def make(self, account: str, name: str) -> Key:
        """A new key. Unless an account may hold several, this is a reset: the others end."""
        with self._lock:
            now = self._clock.now()
            if not self.settings.several_keys:
                for old in self.keys(account):
                    self.end(old)
            value = guard.mint("ecosystem_access_key", 32)
            key = Key(next(self._ids), account, name, value, Lifespan(self._quirks.known_from(now)))
            self._keys.append(key)
            return key

    def end(self, key: Key) -> None:
        """End one key; it works until `linger_s` has passed."""
        with self._lock:
            key.life.end(self._quirks.dead_from(self._clock.now()))
