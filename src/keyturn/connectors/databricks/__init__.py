"""Databricks: service principals' OAuth secrets, and personal access tokens."""
