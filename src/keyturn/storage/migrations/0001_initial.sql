CREATE TABLE sealed (
  id TEXT PRIMARY KEY,
  kek_id TEXT NOT NULL,
  body {blob} NOT NULL,
  created_at {real} NOT NULL,
  destroy_at {real}
);
CREATE INDEX sealed_destroy ON sealed (destroy_at) WHERE destroy_at IS NOT NULL;
CREATE TABLE hub (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE TABLE definition (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at {real} NOT NULL
);
CREATE TABLE principal (
  id TEXT PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,
  holder TEXT NOT NULL,
  epoch {int} NOT NULL,
  lease_until {real} NOT NULL,
  active_run_id TEXT
);
CREATE TABLE refused_login (
  principal_id TEXT NOT NULL REFERENCES principal (id),
  at {real} NOT NULL
);
CREATE INDEX refused_login_by ON refused_login (principal_id, at);
CREATE TABLE connection (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  system TEXT NOT NULL,
  method TEXT NOT NULL,
  settings TEXT NOT NULL,
  principal_id TEXT NOT NULL REFERENCES principal (id),
  owner TEXT NOT NULL,
  policy TEXT NOT NULL,
  identity TEXT NOT NULL,
  state TEXT NOT NULL,
  generation {int} NOT NULL,
  current_version_id TEXT,
  definition_hash TEXT NOT NULL,
  created_at {real} NOT NULL,
  journal_count {int} NOT NULL,
  journal_hash TEXT NOT NULL
);
CREATE TABLE version (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  principal_id TEXT NOT NULL,
  number {int} NOT NULL,
  state TEXT NOT NULL,
  ref TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  provenance TEXT NOT NULL,
  born_at {real},
  expires_at {real},
  changed_at {real} NOT NULL,
  UNIQUE (connection_id, number)
);
CREATE INDEX version_fingerprint ON version (fingerprint);
CREATE INDEX version_principal ON version (principal_id);
CREATE TABLE run (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  principal_id TEXT NOT NULL,
  goal TEXT NOT NULL,
  trigger_key TEXT NOT NULL,
  reason TEXT NOT NULL,
  plan TEXT NOT NULL,
  state TEXT NOT NULL,
  track TEXT NOT NULL,
  cursor {int} NOT NULL,
  due_at {real},
  waiting_for TEXT NOT NULL,
  old_version_id TEXT,
  new_version_id TEXT,
  attempts {int} NOT NULL,
  proof TEXT NOT NULL,
  created_at {real} NOT NULL,
  started_at {real},
  ended_at {real},
  outcome TEXT NOT NULL,
  UNIQUE (connection_id, trigger_key)
);
CREATE INDEX run_due ON run (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX run_connection ON run (connection_id, created_at);
CREATE TABLE journal (
  connection_id TEXT NOT NULL,
  number {int} NOT NULL,
  at {real} NOT NULL,
  run_id TEXT NOT NULL,
  step TEXT NOT NULL,
  kind TEXT NOT NULL,
  epoch {int} NOT NULL,
  facts TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (connection_id, number)
);
CREATE INDEX journal_run ON journal (run_id);
CREATE TABLE task (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  step TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  title TEXT NOT NULL,
  instructions TEXT NOT NULL,
  fields TEXT NOT NULL,
  claimed_by TEXT NOT NULL,
  claimed_until {real} NOT NULL,
  why TEXT NOT NULL,
  created_at {real} NOT NULL,
  due_at {real} NOT NULL
);
CREATE INDEX task_run ON task (run_id);
CREATE TABLE debt (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  version_id TEXT,
  run_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  why TEXT NOT NULL,
  facts TEXT NOT NULL,
  owner TEXT NOT NULL,
  tries {int} NOT NULL,
  next_try_at {real} NOT NULL,
  created_at {real} NOT NULL,
  closed_at {real},
  closed_by TEXT NOT NULL,
  closed_why TEXT NOT NULL
);
CREATE TABLE consumer (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  ttl_s {real} NOT NULL,
  required {int} NOT NULL,
  seen_generation {int} NOT NULL,
  seen_at {real},
  UNIQUE (connection_id, name)
);
CREATE TABLE lease (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  consumer TEXT NOT NULL,
  taken_at {real} NOT NULL,
  until_at {real} NOT NULL,
  ended_at {real}
);
CREATE INDEX lease_version ON lease (version_id) WHERE ended_at IS NULL;
CREATE TABLE issued_secret (
  version_id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  slot TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  hint TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at {real} NOT NULL,
  ends_at {real},
  first_used_at {real},
  last_used_at {real},
  last_used_from TEXT NOT NULL,
  last_used_agent TEXT NOT NULL,
  uses {int} NOT NULL
);
CREATE INDEX issued_connection ON issued_secret (connection_id);
