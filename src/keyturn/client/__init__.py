"""A client of a hub's API for Python programs: small, synchronous, typed. It needs httpx2 and nothing else of Keyturn's."""

from keyturn.client.client import Client
from keyturn.client.shapes import (
    Connection,
    ConnectionPage,
    Debt,
    Lease,
    Page,
    Plan,
    Run,
    RunLine,
    Started,
    Task,
    Tested,
)

__all__ = [
    "Client",
    "Connection",
    "ConnectionPage",
    "Debt",
    "Lease",
    "Page",
    "Plan",
    "Run",
    "RunLine",
    "Started",
    "Task",
    "Tested",
]
