"""Dispatch only: who advances which run when. The truth is in the run table; losing a wake-up loses nothing."""
