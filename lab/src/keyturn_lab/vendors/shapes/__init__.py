"""A vendor of every card shape for the fault matrix: as fast as a socket allows, with faults and an oracle.

Only the light half is imported here, because the product process under test imports it too.
"""

from .client import Client, Refused, Unanswered
from .faults import faults_for
from .running import Shapes

__all__ = ["Client", "Refused", "Shapes", "Unanswered", "faults_for"]
