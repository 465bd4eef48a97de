-- Version 2: broadcasts in slices, jobs that release them, and what has become of them; pushes for later; collapse keys.

-- Broadcast jobs that have not been forgotten. `body` is the job as protobuf, without its payload; the other columns repeat
-- what of it is looked for.
CREATE TABLE IF NOT EXISTS job (
    id    BIGINT NOT NULL PRIMARY KEY,
    app   INT UNSIGNED NOT NULL,
    ended BIGINT NOT NULL,
    body  LONGBLOB NOT NULL,
    KEY of_app (app, id),
    KEY ended (ended, app, id)
) ENGINE=InnoDB;

-- What the entries of one broadcast share. It goes with the last of them, or with its job.
CREATE TABLE IF NOT EXISTS broadcast_body (
    id       BIGINT NOT NULL PRIMARY KEY,
    app      INT UNSIGNED NOT NULL,
    audience LONGBLOB NOT NULL,
    payload  LONGBLOB NOT NULL
) ENGINE=InnoDB;

-- The logs. A broadcast of a job has an entry for each slice of its audience, [slice_from, slice_to) as the job counts.
CREATE TABLE IF NOT EXISTS broadcast_entry (
    app        INT UNSIGNED NOT NULL,
    bseq       BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    accepted   BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    recalled   TINYINT UNSIGNED NOT NULL,
    slice_from BIGINT,
    slice_to   BIGINT,
    filter     LONGBLOB,
    PRIMARY KEY (app, bseq),
    KEY message (id, slice_from),
    KEY expiry (expires)
) ENGINE=InnoDB;

-- Users whose cursor has passed the broadcast, by what became of it for them. There as long as the body.
CREATE TABLE IF NOT EXISTS broadcast_count (
    id       BIGINT NOT NULL PRIMARY KEY,
    app      INT UNSIGNED NOT NULL,
    acked    BIGINT NOT NULL,
    expired  BIGINT NOT NULL,
    recalled BIGINT NOT NULL,
    dropped  BIGINT NOT NULL
) ENGINE=InnoDB;

-- What rooms have sent of it, each of its lives for itself.
CREATE TABLE IF NOT EXISTS broadcast_part (
    id          BIGINT NOT NULL,
    room        INT UNSIGNED NOT NULL,
    incarnation BIGINT NOT NULL,
    sent        BIGINT NOT NULL,
    PRIMARY KEY (id, room, incarnation)
) ENGINE=InnoDB;

-- The old table goes at the end. If that was done before the version could be noted, there is nothing left to copy.
CREATE TABLE IF NOT EXISTS broadcast (
    id       BIGINT NOT NULL PRIMARY KEY,
    app      INT UNSIGNED NOT NULL,
    bseq     BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    recalled TINYINT UNSIGNED NOT NULL,
    audience LONGBLOB NOT NULL,
    payload  LONGBLOB NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO broadcast_body (id, app, audience, payload) SELECT id, app, audience, payload FROM broadcast;
INSERT IGNORE INTO broadcast_entry (app, bseq, id, accepted, expires, recalled)
    SELECT app, bseq, id, accepted, expires, recalled FROM broadcast;
INSERT IGNORE INTO broadcast_count (id, app, acked, expired, recalled, dropped)
    SELECT id, app, 0, 0, 0, 0 FROM broadcast;

-- Pushes for later, in parts of a bounded number of users, of whom `uid` is the first. `body` is the part as protobuf.
CREATE TABLE IF NOT EXISTS scheduled (
    app   INT UNSIGNED NOT NULL,
    id    BIGINT NOT NULL,
    part  INT UNSIGNED NOT NULL,
    due   BIGINT NOT NULL,
    uid   VARBINARY(128) NOT NULL,
    users INT UNSIGNED NOT NULL,
    body  LONGBLOB NOT NULL,
    PRIMARY KEY (app, id, part),
    KEY due (due),
    KEY of_app (app, due)
) ENGINE=InnoDB;

-- By how many minutes the clock of each user's device differs from UTC, as it last said.
CREATE TABLE IF NOT EXISTS utc_offset (
    app     INT UNSIGNED NOT NULL,
    uid     VARBINARY(128) NOT NULL,
    minutes SMALLINT NOT NULL,
    PRIMARY KEY (app, uid)
) ENGINE=InnoDB;

-- Of a stored message: it takes the place of earlier ones of the same user with the same key. A column that is there
-- already was made by this.
ALTER TABLE inbox ADD COLUMN collapse VARBINARY(64);

DROP TABLE IF EXISTS broadcast;
