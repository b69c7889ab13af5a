"""Acme Notes: a REST system that no connector knows, for the Custom Connector and whoever describes it."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.notes.server import create_app

STANDIN = StandIn("notes", create_app)
