CREATE OR REPLACE FUNCTION connection_serves() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    NEW.since_at := NULL;
    NEW.expires_at := NULL;
    SELECT COALESCE(NULLIF(born_at, 0), changed_at), expires_at INTO NEW.since_at, NEW.expires_at
      FROM version WHERE id = NEW.current_version_id;
    NEW.due_at := NEW.since_at
      + 86400.0 * NULLIF(COALESCE((NEW.policy::json ->> 'max_age_days')::double precision, 90.0), 0);
    NEW.rotate_at := CASE WHEN NEW.policy::json ->> 'automatic' = 'true' THEN LEAST(
      NEW.due_at, NEW.expires_at - LEAST(1209600.0, 0.2 * GREATEST(0.0, NEW.expires_at - NEW.since_at))) END;
    RETURN NEW;
  END $$;
UPDATE connection SET policy = jsonb_set(policy::jsonb, '{max_age_days}', '0')::text
  WHERE system = 'custom-rest' AND method = 'none';
UPDATE connection SET current_version_id = current_version_id
