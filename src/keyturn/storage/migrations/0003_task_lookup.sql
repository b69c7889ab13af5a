ALTER TABLE task ADD COLUMN lookup TEXT NOT NULL DEFAULT '';
CREATE INDEX task_lookup ON task (lookup) WHERE lookup <> '';
