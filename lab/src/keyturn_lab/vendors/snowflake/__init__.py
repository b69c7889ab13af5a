"""Snowflake's stand-in: the official driver logs in, rotates keys, passwords and client secrets, and reads history."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.snowflake.server import create_app

STANDIN = StandIn("snowflake", create_app)
