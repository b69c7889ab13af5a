"""Microsoft's stand-in: Entra's token endpoint, the part of Graph that keeps applications, and a Dataverse environment."""

from keyturn_lab.standin import StandIn
from keyturn_lab.vendors.dynamics.server import create_app

STANDIN = StandIn("dynamics", create_app)
