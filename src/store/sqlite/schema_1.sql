-- Documents: policies and pipelines. Times are microseconds since 1970.
-- Every change of a document takes the next number of the clock, so that whoever reads the file
-- later can ask for what came after a number.
CREATE TABLE document_clock (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT;
INSERT INTO document_clock VALUES (1, 0);
-- Immutable once written; only pruned.
CREATE TABLE document_versions (
  kind INTEGER NOT NULL CHECK (kind IN (1, 2)), name TEXT NOT NULL, version INTEGER NOT NULL CHECK (version > 0),
  sha256 TEXT NOT NULL, body TEXT NOT NULL, owner INTEGER NOT NULL CHECK (owner IN (1, 2, 3)), author TEXT NOT NULL,
  comment TEXT NOT NULL, created_at INTEGER NOT NULL, rollback_of INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, name, version) ) STRICT;
-- What serves: version 0 is nothing. `last` is the highest version ever given, pruned ones too.
CREATE TABLE document_heads (
  kind INTEGER NOT NULL, name TEXT NOT NULL, owner INTEGER NOT NULL, active INTEGER NOT NULL, last INTEGER NOT NULL,
  seq INTEGER NOT NULL UNIQUE, PRIMARY KEY (kind, name) ) STRICT;
-- The last document that was refused, as JSON.
CREATE TABLE document_rejections (kind INTEGER NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT;
-- The rollout under way or ended last of a policy, as JSON.
CREATE TABLE policy_rollouts (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
