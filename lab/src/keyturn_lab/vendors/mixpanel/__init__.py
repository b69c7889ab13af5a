"""Mixpanel's stand-in: service accounts of organizations with projects in three regions, and the old project secrets."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.mixpanel.server import create_app

STANDIN = StandIn("mixpanel", create_app)
