ALTER TABLE issued_secret ADD COLUMN starts_at {real};
CREATE INDEX issued_pending ON issued_secret (starts_at) WHERE state = 'pending';
CREATE INDEX issued_ends ON issued_secret (ends_at) WHERE state IN ('pending', 'live', 'retiring') AND ends_at IS NOT NULL;
CREATE INDEX issued_retiring ON issued_secret (version_id) WHERE state = 'retiring';
