"""Zuora: OAuth clients of a tenant's user."""
