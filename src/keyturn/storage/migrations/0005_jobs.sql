CREATE TABLE job (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  name TEXT NOT NULL UNIQUE,
  what TEXT NOT NULL,
  most {int} NOT NULL,
  schedule TEXT NOT NULL,
  after_rotation {int} NOT NULL,
  due_at {real},
  claimed_by TEXT NOT NULL,
  claimed_until {real} NOT NULL,
  paused_at {real},
  paused_by TEXT NOT NULL,
  held_at {real},
  state TEXT NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL
);
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_connection ON job (connection_id);
CREATE TABLE job_result (
  id TEXT PRIMARY KEY,
  job_id TEXT NOT NULL REFERENCES job (id),
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  cause TEXT NOT NULL,
  state TEXT NOT NULL,
  items {int} NOT NULL,
  seconds {real} NOT NULL,
  code TEXT NOT NULL,
  detail TEXT NOT NULL,
  began_at {real} NOT NULL
);
CREATE INDEX job_result_job ON job_result (job_id, began_at);
CREATE INDEX job_result_version ON job_result (version_id);
CREATE TABLE project (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL
);
CREATE TABLE object (
  id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL REFERENCES project (id),
  name TEXT NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL,
  UNIQUE (project_id, name)
);
CREATE TABLE source (
  id TEXT PRIMARY KEY,
  object_id TEXT NOT NULL REFERENCES object (id),
  name TEXT NOT NULL,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  what TEXT NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL,
  changed_at {real} NOT NULL,
  UNIQUE (object_id, name)
);
CREATE INDEX source_connection ON source (connection_id);
