"""ServiceNow: two entries of the application registry that follow each other."""
