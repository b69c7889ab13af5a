"""Freshdesk: API keys of one agent, or of two that take turns."""
