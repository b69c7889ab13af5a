DROP TRIGGER connection_serves;
CREATE TRIGGER connection_serves AFTER UPDATE OF current_version_id, policy ON connection BEGIN
  UPDATE connection SET (since_at, due_at, expires_at, rotate_at) = (
    SELECT since, due, ends, CASE WHEN json_extract(NEW.policy, '$.automatic') THEN COALESCE(MIN(due, late), due, late) END
    FROM (SELECT since, due, ends, ends - MIN(1209600.0, 0.2 * MAX(0.0, ends - since)) AS late
      FROM (SELECT since, ends, since + 86400.0 * NULLIF(COALESCE(json_extract(NEW.policy, '$.max_age_days'), 90.0), 0) AS due
        FROM (SELECT COALESCE(NULLIF(born_at, 0), changed_at) AS since, expires_at AS ends
          FROM version WHERE id = NEW.current_version_id)))) WHERE id = NEW.id;
  END;
UPDATE connection SET policy = json_set(policy, '$.max_age_days', 0) WHERE system = 'custom-rest' AND method = 'none';
UPDATE connection SET current_version_id = current_version_id
