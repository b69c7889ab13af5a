-- Whether a connection has a run that has not ended is asked at every start, and a grant that renews itself hourly has
-- thousands that have.
CREATE INDEX run_open ON run (connection_id) WHERE ended_at IS NULL;
