CREATE INDEX debt_run ON debt (run_id);
CREATE INDEX debt_due ON debt (next_try_at) WHERE closed_at IS NULL;
CREATE INDEX task_waiting ON task (state, due_at);
CREATE INDEX run_created ON run (created_at, id);
CREATE INDEX version_state ON version (connection_id, state);
CREATE INDEX connection_principal ON connection (principal_id);
CREATE INDEX lease_until ON lease (until_at);
