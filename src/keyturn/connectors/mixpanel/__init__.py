"""Mixpanel: service accounts of an organization."""
