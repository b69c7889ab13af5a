"""Aha!'s stand-in: several named keys per user, made and deleted by a person only, both with a lag."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.aha.server import create_app

STANDIN = StandIn("aha", create_app)
