"""What our connectors really send, and what our stand-ins answer, held against what the vendors publish.

`tap.py` records, `drive.py` makes a row do all it can, `description.py` judges by a document taken from a vendor's package
(`documents/`, written by tools/published.py), `sites.py` finds the lines of a connector that speak to its vendor.
"""
