CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT LOWER($1) $$;
CREATE FUNCTION connection_serves() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    NEW.since_at := NULL;
    NEW.expires_at := NULL;
    SELECT COALESCE(NULLIF(born_at, 0), changed_at), expires_at INTO NEW.since_at, NEW.expires_at
      FROM version WHERE id = NEW.current_version_id;
    NEW.due_at := NEW.since_at + 86400.0 * COALESCE((NEW.policy::json ->> 'max_age_days')::double precision, 90.0);
    NEW.rotate_at := CASE WHEN NEW.policy::json ->> 'automatic' = 'true' THEN LEAST(
      NEW.due_at, NEW.expires_at - LEAST(1209600.0, 0.2 * GREATEST(0.0, NEW.expires_at - NEW.since_at))) END;
    RETURN NEW;
  END $$;
CREATE FUNCTION version_serves() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    UPDATE connection SET current_version_id = NEW.id WHERE id = NEW.connection_id AND current_version_id = NEW.id;
    RETURN NULL;
  END $$;
CREATE TRIGGER connection_serves BEFORE UPDATE OF current_version_id, policy ON connection
  FOR EACH ROW EXECUTE FUNCTION connection_serves();
CREATE TRIGGER version_made AFTER INSERT ON version
  FOR EACH ROW WHEN (NEW.state = 'current') EXECUTE FUNCTION version_serves();
CREATE TRIGGER version_changed AFTER UPDATE OF born_at, changed_at, expires_at ON version
  FOR EACH ROW WHEN (NEW.state = 'current') EXECUTE FUNCTION version_serves();
UPDATE connection SET current_version_id = current_version_id;
UPDATE journal SET actor = facts::json ->> 'by'
  WHERE facts LIKE '%"by":"%' AND POSITION('\u0000' IN facts) = 0 AND json_typeof(facts::json -> 'by') = 'string'
