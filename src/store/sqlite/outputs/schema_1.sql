-- Cached outputs, in a file of their own that may be lost. Times are microseconds since 1970.
-- `check_sum` is the start of SHA-256 over key and body: a page that rotted is nobody's answer.
CREATE TABLE outputs (
  key BLOB NOT NULL PRIMARY KEY, pipeline TEXT NOT NULL, step TEXT NOT NULL, target TEXT NOT NULL,
  stored_at INTEGER NOT NULL, bytes INTEGER NOT NULL, check_sum BLOB NOT NULL, body BLOB NOT NULL,
  neighbourhood BLOB, vector BLOB ) STRICT;
-- With the bytes, so that their sum is not read from the outputs themselves.
CREATE INDEX outputs_age ON outputs (stored_at, bytes);
CREATE INDEX outputs_origin ON outputs (pipeline, step);
CREATE INDEX outputs_vectors ON outputs (stored_at) WHERE vector IS NOT NULL;
