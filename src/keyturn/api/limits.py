"""How often a credential may call: a leaky bucket each, with the standard's headers on every answer.

A bucket has no window whose edge lets two bursts through. It is kept per serving process: two of them behind a balancer
let twice as much in, which bounds the load per process, the thing that is protected.
Source: draft-ietf-httpapi-ratelimit-headers-10 (RateLimit-Policy, RateLimit), RFC 9110 10.2.3 (Retry-After), checked
2026-11-23.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

KEPT = 10_000


@dataclass(frozen=True)
class Quota:
    """`most` calls a window, all at once if need be. Calls that programs make at every use have a wider one."""

    name: str
    most: int
    window_s: float = 60.0

    @cached_property
    def each_s(self) -> float:
        """What one call takes to drain; 0 where there is no limit."""
        return self.window_s / self.most if self.most > 0 else 0.0

    @cached_property
    def policy(self) -> str:
        """The header that names it."""
        return f'"{self.name}";q={self.most};w={self.window_s:.0f}'


DEFAULT = Quota("default", 600)
QUOTAS: Mapping[str, Quota] = {"events": Quota("events", 1000), "lease": Quota("lease", 6000)}


class Verdict(NamedTuple):
    """`wait_s` 0 lets the call in; the headers go on the answer either way."""

    wait_s: int
    headers: Mapping[str, str]


_HAIR = 1e-9  # seconds: what sums of floats are off by
_UNLIMITED = Verdict(0, {})


@lru_cache(maxsize=1024)
def _own(rate: int) -> Quota:
    return Quota("own", rate)


class Limits:
    """The buckets of this process, the oldest forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[tuple[str, str], float] = {}  # when a bucket is empty again

    def take(self, who: str, scope: str, rate: int | None, cost: int = 1) -> Verdict:
        """Counts a call of `who` that needs `scope`. `rate`: the credential's own calls a minute, 0 for no limit."""
        quota = QUOTAS.get(scope.partition(":")[0], DEFAULT) if rate is None else _own(rate)
        name, most, window, each = quota.name, quota.most, quota.window_s, quota.each_s
        if most <= 0:
            return _UNLIMITED
        now, key = self._clock(), (who, name)
        with self._lock:  # taken out and put back, a bucket is the youngest
            full = max(self._full_at.pop(key, now) - now, 0.0)  # seconds until it is empty
            wait = full + each * cost - window
            if wait <= _HAIR:
                full += each * cost
            self._full_at[key] = now + full
            if len(self._full_at) > KEPT:
                del self._full_at[next(iter(self._full_at))]
        left = max(0, int((window - full) / each + 1e-6))
        said = {"RateLimit-Policy": quota.policy, "RateLimit": f'"{name}";r={left};t={math.ceil(full)}'}
        if wait <= _HAIR:
            return Verdict(0, said)
        wait_s = max(1, math.ceil(wait))
        return Verdict(wait_s, {**said, "Retry-After": str(wait_s)})
