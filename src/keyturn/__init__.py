"""Keyturn: the self-hosted hub that rotates integration credentials and proves it."""
