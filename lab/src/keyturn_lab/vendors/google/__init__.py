"""Google's stand-in: OAuth with consents and signed assertions, IAM keys, and as much of BigQuery and Analytics as proves them."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.google.server import create_app

STANDIN = StandIn("google", create_app)
