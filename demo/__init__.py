"""The demo: every row connected and rotated against real parts and stand-ins, with consumers that never stop."""
