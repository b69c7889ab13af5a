"""SAP Datasphere's stand-in: database users of a space, reset by page or API, and the HANA login that uses them."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.sap_datasphere.server import create_app

STANDIN = StandIn("sap_datasphere", create_app)
