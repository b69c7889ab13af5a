CREATE TABLE chain (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  journal_count {int} NOT NULL,
  journal_hash TEXT NOT NULL
);
INSERT INTO chain (id, name, journal_count, journal_hash) VALUES ('hub', 'the hub', 0, '');
CREATE TABLE account (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  login TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password TEXT NOT NULL,
  totp_at {real},
  totp_step {int} NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL,
  disabled_at {real},
  seen_at {real}
);
CREATE TABLE account_link (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  account_id TEXT NOT NULL REFERENCES account (id),
  PRIMARY KEY (issuer, subject)
);
CREATE TABLE held_role (
  account_id TEXT NOT NULL REFERENCES account (id),
  role TEXT NOT NULL,
  project TEXT NOT NULL,
  source TEXT NOT NULL,
  PRIMARY KEY (account_id, role, project, source)
);
CREATE TABLE session (
  digest TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES account (id),
  how TEXT NOT NULL,
  created_at {real} NOT NULL,
  seen_at {real} NOT NULL,
  ends_at {real} NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL
);
CREATE INDEX session_account ON session (account_id);
CREATE INDEX session_ends ON session (ends_at);
CREATE TABLE invitation (
  digest TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  account_id TEXT NOT NULL,
  created_at {real} NOT NULL,
  ends_at {real} NOT NULL,
  used_at {real}
);
CREATE TABLE recovery_code (
  account_id TEXT NOT NULL REFERENCES account (id),
  digest TEXT NOT NULL,
  used_at {real},
  PRIMARY KEY (account_id, digest)
);
CREATE TABLE passkey (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES account (id),
  public_key {blob} NOT NULL,
  uses {int} NOT NULL,
  name TEXT NOT NULL,
  created_at {real} NOT NULL,
  used_at {real}
);
CREATE INDEX passkey_account ON passkey (account_id);
CREATE TABLE failed_sign_in (
  key TEXT NOT NULL,
  at {real} NOT NULL
);
CREATE INDEX failed_sign_in_by ON failed_sign_in (key, at);
CREATE INDEX failed_sign_in_at ON failed_sign_in (at);
CREATE TABLE api_token (
  id TEXT PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  account_id TEXT NOT NULL REFERENCES account (id),
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  hint TEXT NOT NULL,
  created_at {real} NOT NULL,
  created_by TEXT NOT NULL,
  ends_at {real},
  ended_at {real},
  used_at {real},
  used_from TEXT NOT NULL
);
CREATE INDEX api_token_account ON api_token (account_id);
ALTER TABLE connection ADD COLUMN project TEXT NOT NULL DEFAULT '';
