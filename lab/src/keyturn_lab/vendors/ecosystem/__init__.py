"""Ecosystems' stand-in: a key per account by its administrator's hand, one at a time or several."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.ecosystem.server import create_app

STANDIN = StandIn("ecosystem", create_app)
