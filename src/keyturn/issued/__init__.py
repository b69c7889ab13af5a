"""The hub as a vendor: the credentials it gives to others, kept as digests in its own book."""
