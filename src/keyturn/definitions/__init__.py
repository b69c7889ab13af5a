"""The declarative side of connectors: reader, expression set, lint and interpreter of `rest-credential/v1`.

This page is what the catalogue uses. Operations that take a user's document use `definitions.check.check` and `accept`,
which lint as well; texts for people are filled by `definitions.expressions.fill`.
"""

from keyturn.definitions.derive import card, fields, row_of
from keyturn.definitions.interpreter import capabilities
from keyturn.definitions.model import Definition
from keyturn.definitions.reader import read_definition as read
from keyturn.definitions.system import as_method, read_system

__all__ = ["Definition", "as_method", "capabilities", "card", "fields", "read", "read_system", "row_of"]
