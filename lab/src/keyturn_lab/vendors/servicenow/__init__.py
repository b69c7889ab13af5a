"""ServiceNow's stand-in: an application registry, OAuth with tokens that come back unchanged, and the Table API."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.servicenow.server import create_app

STANDIN = StandIn("servicenow", create_app)
