"""Ecosystems, the value management platform: an access key by hand."""
