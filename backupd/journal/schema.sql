-- The journal of one node. Times are ISO 8601 in UTC with six digits, so that text order is time order.
-- Facts and reasons are JSON. Nothing here is needed for a restore: the archive alone is enough for that.

CREATE TABLE IF NOT EXISTS runs (
    id            TEXT PRIMARY KEY,
    database      TEXT NOT NULL,
    kind          TEXT NOT NULL,            -- backup, restore, truncate, verify, prune, recover, drill, seed, copy-archive
    type          TEXT NOT NULL,            -- of a backup: full, incremental, differential, copy; else ''
    state         TEXT NOT NULL,
    label         TEXT NOT NULL,            -- the backup's id, '' until it has one
    host          TEXT NOT NULL,
    boot_id       TEXT NOT NULL,
    pid           INTEGER NOT NULL,
    started_ticks INTEGER NOT NULL,         -- of the process, after the boot: a pid alone is reused
    started_at    TEXT NOT NULL,
    finished_at   TEXT,                     -- NULL: a process works on it, or died working on it
    facts         TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS runs_by_database ON runs (database, started_at);
CREATE INDEX IF NOT EXISTS runs_by_label ON runs (label) WHERE label <> '';
CREATE INDEX IF NOT EXISTS runs_unfinished ON runs (database) WHERE finished_at IS NULL;

CREATE TABLE IF NOT EXISTS transitions (
    number     INTEGER PRIMARY KEY,         -- the order of the diary
    run_id     TEXT NOT NULL REFERENCES runs (id),
    event      TEXT NOT NULL,               -- 'begin', 'note', or the name of a move
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    says       TEXT NOT NULL,
    at         TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS transitions_by_run ON transitions (run_id, number);

CREATE TABLE IF NOT EXISTS holds (
    database   TEXT NOT NULL,
    holder     TEXT NOT NULL,
    history    TEXT NOT NULL,               -- the log from (history, offset) on must stay
    position   INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    placed_at  TEXT NOT NULL,
    PRIMARY KEY (database, holder)
);

CREATE TABLE IF NOT EXISTS truncations (
    number     INTEGER PRIMARY KEY,         -- the last one of a label counts
    label      TEXT NOT NULL,
    database   TEXT NOT NULL,
    state      TEXT NOT NULL,
    before     TEXT,                        -- history/offset, NULL when nothing was removed
    blocked_by TEXT NOT NULL,
    at         TEXT NOT NULL,
    facts      TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS truncations_by_label ON truncations (label, number);

CREATE TABLE IF NOT EXISTS attempts (
    number     INTEGER PRIMARY KEY,
    database   TEXT NOT NULL,
    slot       TEXT NOT NULL,
    run_id     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    at         TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS attempts_by_slot ON attempts (database, slot, number);
