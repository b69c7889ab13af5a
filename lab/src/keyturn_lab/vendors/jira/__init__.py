"""Jira Cloud's stand-in: OAuth 2.0 (3LO) with rotating refresh tokens, granted by a person on a consent page."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.jira.server import create_app

STANDIN = StandIn("jira", create_app)
