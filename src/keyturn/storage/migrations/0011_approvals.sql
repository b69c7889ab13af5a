CREATE TABLE approval (
  run_id TEXT NOT NULL REFERENCES run (id),
  connection_id TEXT NOT NULL,
  goal TEXT NOT NULL,
  state TEXT NOT NULL,
  why TEXT NOT NULL,
  asked_by TEXT NOT NULL,
  asked_from TEXT NOT NULL,
  asked_why TEXT NOT NULL,
  asked_at {real} NOT NULL,
  generation {int} NOT NULL,
  seen TEXT NOT NULL,
  ends_at {real},
  decided_by TEXT NOT NULL,
  decided_from TEXT NOT NULL,
  decided_why TEXT NOT NULL,
  decided_at {real},
  PRIMARY KEY (run_id, asked_at)
);
CREATE INDEX approval_open ON approval (state, asked_at) WHERE decided_at IS NULL;
CREATE INDEX approval_connection ON approval (connection_id) WHERE decided_at IS NULL;
CREATE TABLE task_link (
  digest TEXT PRIMARY KEY,
  task_id TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  made_for TEXT NOT NULL,
  made_by TEXT NOT NULL,
  created_at {real} NOT NULL,
  ends_at {real} NOT NULL,
  ticket TEXT NOT NULL,
  opened_at {real},
  ended_at {real}
);
CREATE INDEX task_link_task ON task_link (task_id);
CREATE INDEX task_link_ticket ON task_link (ticket) WHERE ticket <> '';
CREATE INDEX task_link_ends ON task_link (ends_at);
