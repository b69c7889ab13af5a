"""Measures Keyturn against the best bare loop and against OpenBao: `python -m bench` (see `--help`)."""
