"""The real parts of the lab: a PostgreSQL cluster, moto's AWS server, a certified OAuth server, OpenBao, MariaDB.

Every part runs as its own process on the loopback interface and ends with the process that started it.
"""

from .child import PartMissing

__all__ = ["PartMissing"]
