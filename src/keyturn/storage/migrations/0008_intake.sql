CREATE TABLE bulk_load (
  id TEXT PRIMARY KEY,
  dataset TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  pinned {int} NOT NULL,
  trigger_key TEXT NOT NULL,
  format TEXT NOT NULL,
  mode TEXT NOT NULL,
  delimiter TEXT NOT NULL,
  state TEXT NOT NULL,
  received {int} NOT NULL,
  loaded {int} NOT NULL,
  accepted {int} NOT NULL,
  rejected {int} NOT NULL,
  why TEXT NOT NULL,
  created_at {real} NOT NULL,
  changed_at {real} NOT NULL,
  until_at {real} NOT NULL,
  ended_at {real},
  UNIQUE (connection_id, trigger_key)
);
CREATE INDEX bulk_load_open ON bulk_load (state) WHERE ended_at IS NULL;
CREATE INDEX bulk_load_version ON bulk_load (version_id) WHERE ended_at IS NULL;
CREATE TABLE event (
  key TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  id TEXT NOT NULL,
  type TEXT NOT NULL,
  digest TEXT NOT NULL,
  body TEXT NOT NULL,
  received_at {real} NOT NULL,
  UNIQUE (connection_id, id)
);
CREATE INDEX event_received ON event (received_at);
CREATE TABLE refused_event (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  code TEXT NOT NULL,
  event_id TEXT NOT NULL,
  headers TEXT NOT NULL,
  body TEXT,
  size {int} NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL,
  refused_at {real} NOT NULL,
  replayed_at {real}
);
CREATE INDEX refused_event_at ON refused_event (refused_at);
CREATE INDEX refused_event_by ON refused_event (connection_id, refused_at);
CREATE TABLE holder (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL REFERENCES connection (id),
  name TEXT NOT NULL,
  contact TEXT NOT NULL,
  place TEXT NOT NULL,
  state TEXT NOT NULL,
  version_id TEXT NOT NULL,
  changed_at {real} NOT NULL,
  changed_by TEXT NOT NULL,
  UNIQUE (connection_id, name)
);
CREATE TABLE issued_seen (
  version_id TEXT NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL,
  first_at {real} NOT NULL,
  last_at {real} NOT NULL,
  uses {int} NOT NULL,
  PRIMARY KEY (version_id, address, agent)
);
CREATE TABLE pickup (
  digest TEXT PRIMARY KEY,
  version_id TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  holder TEXT NOT NULL,
  made_by TEXT NOT NULL,
  created_at {real} NOT NULL,
  until_at {real} NOT NULL,
  opened_at {real},
  opened_from TEXT NOT NULL
);
CREATE INDEX pickup_version ON pickup (version_id);
CREATE TABLE leak (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  version_id TEXT NOT NULL,
  source TEXT NOT NULL,
  url TEXT NOT NULL,
  reported_by TEXT NOT NULL,
  run_id TEXT NOT NULL,
  was_live {int} NOT NULL,
  reported_at {real} NOT NULL,
  UNIQUE (version_id, source, url)
);
