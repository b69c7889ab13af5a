"""Databricks' stand-in: a workspace and its account, with service principals' secrets and personal access tokens."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.databricks.server import create_app

STANDIN = StandIn("databricks", create_app)
