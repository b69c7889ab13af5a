"""The hub's own data store: what others load into it by file, in SQLite files of its own beside the hub's database."""
