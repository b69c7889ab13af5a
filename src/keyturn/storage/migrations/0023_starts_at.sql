ALTER TABLE issued_secret ADD COLUMN starts_at {real};
CREATE INDEX issued_pending ON issued_secret (starts_at) WHERE state = 'pending';
