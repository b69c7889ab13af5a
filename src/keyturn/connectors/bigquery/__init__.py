"""Google BigQuery: service account keys, and a person's consent."""
