ALTER TABLE issued_secret ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
CREATE INDEX issued_client ON issued_secret (client_id);
CREATE TABLE oauth_grant (
  id TEXT PRIMARY KEY,
  connection_id TEXT NOT NULL,
  client_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  scopes TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  created_at {real} NOT NULL,
  used_at {real},
  ended_at {real},
  ended_why TEXT NOT NULL
);
CREATE INDEX oauth_grant_subject ON oauth_grant (subject);
CREATE INDEX oauth_grant_client ON oauth_grant (client_id);
CREATE TABLE oauth_code (
  hash TEXT PRIMARY KEY,
  grant_id TEXT NOT NULL REFERENCES oauth_grant (id),
  challenge TEXT NOT NULL,
  expires_at {real} NOT NULL,
  used_at {real}
);
CREATE INDEX oauth_code_expires ON oauth_code (expires_at);
CREATE TABLE oauth_token (
  hash TEXT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  client_id TEXT NOT NULL,
  secret_id TEXT NOT NULL,
  grant_id TEXT NOT NULL,
  scopes TEXT NOT NULL,
  issued_at {real} NOT NULL,
  expires_at {real} NOT NULL,
  used_at {real},
  salt TEXT NOT NULL,
  successor TEXT NOT NULL,
  revoked_at {real}
);
CREATE INDEX oauth_token_grant ON oauth_token (grant_id);
CREATE INDEX oauth_token_expires ON oauth_token (expires_at);
CREATE INDEX oauth_token_successor ON oauth_token (successor);
