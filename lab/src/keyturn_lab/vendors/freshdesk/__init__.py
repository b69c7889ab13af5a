"""Freshdesk's stand-in: one API key per agent, reset by a person only, the old key dead at once."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.freshdesk.server import create_app

STANDIN = StandIn("freshdesk", create_app)
