"""From card, connection, inventory, goal and policy to a plan: pure functions, no I/O."""
