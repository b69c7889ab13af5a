CREATE TABLE repeat (
  id TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  status {int},
  claim TEXT NOT NULL,
  claimed_until {real} NOT NULL,
  ends_at {real} NOT NULL
);
CREATE INDEX repeat_ends ON repeat (ends_at);
CREATE TABLE notice (
  number {int} PRIMARY KEY,
  at {real} NOT NULL,
  topic TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  facts TEXT NOT NULL
);
CREATE INDEX notice_at ON notice (at);
CREATE TABLE noticed (
  subject TEXT PRIMARY KEY,
  mark TEXT NOT NULL,
  is_open {int} NOT NULL,
  at {real} NOT NULL
);
CREATE INDEX noticed_open ON noticed (is_open, at);
CREATE TABLE notice_head (
  id TEXT PRIMARY KEY,
  number {int} NOT NULL,
  looked_at {real} NOT NULL
);
INSERT INTO notice_head (id, number, looked_at) VALUES ('hub', 0, 0);
CREATE TABLE recipient (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  name TEXT NOT NULL UNIQUE,
  address TEXT NOT NULL,
  topics TEXT NOT NULL,
  project TEXT NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL,
  paused_at {real}
);
CREATE TABLE delivery (
  id TEXT PRIMARY KEY,
  recipient_id TEXT NOT NULL REFERENCES recipient (id),
  notice_number {int} NOT NULL,
  state TEXT NOT NULL,
  tries {int} NOT NULL,
  due_at {real},
  said TEXT NOT NULL,
  created_at {real} NOT NULL,
  ended_at {real},
  UNIQUE (recipient_id, notice_number)
);
CREATE INDEX delivery_due ON delivery (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_recipient ON delivery (recipient_id, notice_number)
