"""The hub's own buckets: one IAM user per consumer, limited to a prefix."""
