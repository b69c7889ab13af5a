"""Amazon Redshift users with a password: one user, or two that take turns."""
