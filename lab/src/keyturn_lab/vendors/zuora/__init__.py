"""Zuora's stand-in: several OAuth clients per user, made and deleted by a person only; a tenant answers at its own host."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.zuora.server import create_app

STANDIN = StandIn("zuora", create_app)
