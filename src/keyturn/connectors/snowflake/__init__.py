"""Snowflake users that log in with an RSA key pair."""
