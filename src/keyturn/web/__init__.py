"""The pages for people. Rendered here, live by server-sent events; reach the product through operations and bootstrap only."""
