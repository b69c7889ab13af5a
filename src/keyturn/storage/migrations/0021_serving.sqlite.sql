CREATE TRIGGER connection_serves AFTER UPDATE OF current_version_id, policy ON connection BEGIN
  UPDATE connection SET (since_at, due_at, expires_at, rotate_at) = (
    SELECT since, due, ends, CASE WHEN json_extract(NEW.policy, '$.automatic') THEN MIN(
      due, COALESCE(ends - MIN(1209600.0, 0.2 * MAX(0.0, ends - since)), due)) END
    FROM (SELECT since, ends, since + 86400.0 * COALESCE(json_extract(NEW.policy, '$.max_age_days'), 90.0) AS due
      FROM (SELECT COALESCE(NULLIF(born_at, 0), changed_at) AS since, expires_at AS ends
        FROM version WHERE id = NEW.current_version_id))) WHERE id = NEW.id;
  END;
CREATE TRIGGER version_made AFTER INSERT ON version WHEN NEW.state = 'current' BEGIN
  UPDATE connection SET current_version_id = NEW.id WHERE id = NEW.connection_id AND current_version_id = NEW.id;
  END;
CREATE TRIGGER version_changed AFTER UPDATE OF born_at, changed_at, expires_at ON version WHEN NEW.state = 'current' BEGIN
  UPDATE connection SET current_version_id = NEW.id WHERE id = NEW.connection_id AND current_version_id = NEW.id;
  END;
UPDATE connection SET current_version_id = current_version_id;
UPDATE journal SET actor = json_extract(facts, '$.by') WHERE facts LIKE '%"by":"%' AND json_type(facts, '$.by') = 'text'
