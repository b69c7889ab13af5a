"""Makes new secrets on our side: passwords, tokens, key pairs, verifiers. No network and no storage."""
