"""Runs frozen plans, one step at a time, through one journal protocol that makes any crash resumable."""
