ALTER TABLE version ADD COLUMN refresh_at {real};
CREATE INDEX version_refresh ON version (refresh_at) WHERE refresh_at IS NOT NULL;
