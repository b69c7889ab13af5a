"""Productboard's stand-in: named access tokens made and deleted by a person only, and OAuth whose refresh tokens rotate."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.productboard.server import create_app

STANDIN = StandIn("productboard", create_app)
