"""Our own tables, on SQLite and PostgreSQL alike: the truth of runs, versions, journal, tasks and debts."""
