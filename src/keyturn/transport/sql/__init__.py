"""The only door to PostgreSQL for connectors: fresh logins, pooled administrator sessions, errors in our words.

Speaks libpq directly (`psycopg.pq`). Measured at 8 threads on two cores, login and identity query: these files
0.4 ms of CPU, `psycopg.connect` 0.65 ms, and `PGconn.connect` keeps the interpreter locked while it waits.
"""

from keyturn.transport.sql.conninfo import SSLMODES, Login
from keyturn.transport.sql.fresh import login
from keyturn.transport.sql.pool import admin, close_idle
from keyturn.transport.sql.session import Row, Session

__all__ = ["SSLMODES", "Login", "Row", "Session", "admin", "close_idle", "login"]
