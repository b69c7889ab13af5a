"""A clock that every process of one case shares with the vendor: it ticks, and waiting is a leap instead of a sleep."""

from __future__ import annotations

import mmap
import struct
import time

from keyturn_lab.vendors.shapes import Client

_real = time.time
_OFFSET = struct.Struct("d")


class SharedClock:
    """Real time plus an offset in memory that forked children see too. Hours of retrying cost no time at all."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _OFFSET.size)

    def now(self) -> float:
        """Unix seconds as the vendor sees them."""
        offset: float = _OFFSET.unpack_from(self._shared)[0]
        return _real() + offset

    def reset(self, client: Client) -> None:
        """Back to real time; the vendor forgets everything."""
        client.call("reset")
        _OFFSET.pack_into(self._shared, 0, 0.0)

    def leap(self, client: Client, seconds: float) -> None:
        """Lets `seconds` pass for everybody."""
        client.call("advance", seconds=seconds)
        _OFFSET.pack_into(self._shared, 0, _OFFSET.unpack_from(self._shared)[0] + seconds)

    def install(self) -> None:
        """Makes this process live by it. Only for a forked child: there is no way back."""
        time.time = self.now
