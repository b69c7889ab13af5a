"""The only door to the network: HTTP, its address guard, and the masking of secrets in what leaves."""
