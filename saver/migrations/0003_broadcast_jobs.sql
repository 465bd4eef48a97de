-- Version 3: broadcasts in slices, jobs that release them, and what has become of them; pushes for later; collapse keys.

-- Broadcast jobs that have not been forgotten. `body` is the job as protobuf, without its payload; the other columns repeat
-- what of it is looked for.
CREATE TABLE job (
    id    INTEGER PRIMARY KEY,
    app   INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    body  BLOB NOT NULL
);
CREATE INDEX job_app ON job (app, id);
CREATE INDEX job_active ON job (app, id) WHERE ended = 0;
CREATE INDEX job_ended ON job (ended) WHERE ended > 0;

-- What the entries of one broadcast share. It goes with the last of them, or with its job.
CREATE TABLE broadcast_body (
    id       INTEGER PRIMARY KEY,
    app      INTEGER NOT NULL,
    audience TEXT NOT NULL,
    payload  BLOB NOT NULL
);

-- The logs. A broadcast of a job has an entry for each slice of its audience, [slice_from, slice_to) as the job counts.
CREATE TABLE broadcast_entry (
    app        INTEGER NOT NULL,
    bseq       INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    accepted   INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    recalled   INTEGER NOT NULL,
    slice_from INTEGER,
    slice_to   INTEGER,
    filter     BLOB,
    PRIMARY KEY (app, bseq)
) WITHOUT ROWID;
CREATE INDEX broadcast_entry_id ON broadcast_entry (id, slice_from);
CREATE INDEX broadcast_entry_expires ON broadcast_entry (expires);

-- Users whose cursor has passed the broadcast, by what became of it for them. There as long as the body.
CREATE TABLE broadcast_count (
    id       INTEGER PRIMARY KEY,
    app      INTEGER NOT NULL,
    acked    INTEGER NOT NULL,
    expired  INTEGER NOT NULL,
    recalled INTEGER NOT NULL,
    dropped  INTEGER NOT NULL
);

-- What rooms have sent of it, each of its lives for itself.
CREATE TABLE broadcast_part (
    id          INTEGER NOT NULL,
    room        INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    sent        INTEGER NOT NULL,
    PRIMARY KEY (id, room, incarnation)
) WITHOUT ROWID;

INSERT INTO broadcast_body (id, app, audience, payload) SELECT id, app, audience, payload FROM broadcast;
INSERT INTO broadcast_entry (app, bseq, id, accepted, expires, recalled)
    SELECT app, bseq, id, accepted, expires, recalled FROM broadcast;
INSERT INTO broadcast_count (id, app, acked, expired, recalled, dropped) SELECT id, app, 0, 0, 0, 0 FROM broadcast;
DROP TABLE broadcast;

-- Pushes for later, in parts of a bounded number of users, of whom `uid` is the first. `body` is the part as protobuf.
CREATE TABLE scheduled (
    app   INTEGER NOT NULL,
    id    INTEGER NOT NULL,
    part  INTEGER NOT NULL,
    due   INTEGER NOT NULL,
    uid   TEXT NOT NULL,
    users INTEGER NOT NULL,
    body  BLOB NOT NULL,
    PRIMARY KEY (app, id, part)
);
CREATE INDEX scheduled_due ON scheduled (due);
CREATE INDEX scheduled_app ON scheduled (app, due);

-- By how many minutes the clock of each user's device differs from UTC, as it last said.
CREATE TABLE utc_offset (
    app     INTEGER NOT NULL,
    uid     TEXT NOT NULL,
    minutes INTEGER NOT NULL,
    PRIMARY KEY (app, uid)
) WITHOUT ROWID;

-- Of a stored message: it takes the place of earlier ones of the same user with the same key.
ALTER TABLE delivery ADD COLUMN collapse TEXT;
