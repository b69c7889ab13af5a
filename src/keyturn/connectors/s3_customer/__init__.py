"""Customer-managed S3 buckets: access keys of an IAM user."""
