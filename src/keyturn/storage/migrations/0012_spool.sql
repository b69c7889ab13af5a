-- When each host's spool was last seen empty by that host: what one holds, no other can read.
CREATE TABLE spool_empty (
  spool TEXT PRIMARY KEY,
  at {real} NOT NULL
);
