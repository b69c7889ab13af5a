"""PostgreSQL roles with a password: one role, or two that take turns."""
