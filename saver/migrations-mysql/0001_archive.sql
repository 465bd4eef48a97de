-- Version 1 of the archive on MySQL and MariaDB. Never edit a version that was released: add the next one. MySQL
-- commits by itself after each of these, so each must be able to find its work done already. One statement ends with
-- a semicolon at the end of its line.
--
-- What users name (uids, keys) is VARBINARY: compared byte by byte, with case and trailing spaces.

-- Counters that outlive every process: epochs, blocks of row numbers, revision of the app directory, forgotten rows.
CREATE TABLE IF NOT EXISTS counter (
    name  VARBINARY(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE=InnoDB;

-- The ledger of messages to one user: a row for each, in the order of message ids, with no second index. So a delivery
-- that finished before it was landed is one row at the end of one B-tree.
CREATE TABLE IF NOT EXISTS unicast (
    id       BIGINT NOT NULL PRIMARY KEY,
    app      INT UNSIGNED NOT NULL,
    uid      VARBINARY(128) NOT NULL,
    seq      BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    state    TINYINT UNSIGNED NOT NULL,
    accepted BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    bytes    INT UNSIGNED NOT NULL
) ENGINE=InnoDB;

-- The ledger of messages to many: a row for each receiver, with a negative number of its own.
CREATE TABLE IF NOT EXISTS multicast (
    id       BIGINT NOT NULL PRIMARY KEY,
    message  BIGINT NOT NULL,
    app      INT UNSIGNED NOT NULL,
    uid      VARBINARY(128) NOT NULL,
    seq      BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    state    TINYINT UNSIGNED NOT NULL,
    accepted BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    bytes    INT UNSIGNED NOT NULL,
    KEY receiver (message, uid)
) ENGINE=InnoDB;

-- Inboxes: a copy of each ledger row in state 0, which are few, with the payload if it has one receiver. The row goes
-- when the delivery is finished, and the payload with it.
CREATE TABLE IF NOT EXISTS inbox (
    id       BIGINT NOT NULL PRIMARY KEY,
    message  BIGINT NOT NULL,
    app      INT UNSIGNED NOT NULL,
    uid      VARBINARY(128) NOT NULL,
    seq      BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    bytes    INT UNSIGNED NOT NULL,
    payload  LONGBLOB,
    KEY place (app, uid, seq, expires)
) ENGINE=InnoDB;

-- Payloads that are not in an inbox's row: those of multicasts, and of dead letters.
CREATE TABLE IF NOT EXISTS message (
    id      BIGINT NOT NULL PRIMARY KEY,
    payload LONGBLOB NOT NULL
) ENGINE=InnoDB;

-- Where each user stands in the broadcast log of its app.
CREATE TABLE IF NOT EXISTS broadcast_cursor (
    app   INT UNSIGNED NOT NULL,
    uid   VARBINARY(128) NOT NULL,
    epoch BIGINT NOT NULL,
    bseq  BIGINT NOT NULL,
    PRIMARY KEY (app, uid)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS broadcast_log (
    app   INT UNSIGNED NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    head  BIGINT NOT NULL
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS broadcast (
    id       BIGINT NOT NULL PRIMARY KEY,
    app      INT UNSIGNED NOT NULL,
    bseq     BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    recalled TINYINT UNSIGNED NOT NULL,
    audience LONGBLOB NOT NULL,
    payload  LONGBLOB NOT NULL,
    UNIQUE KEY place (app, bseq),
    KEY expiry (expires)
) ENGINE=InnoDB;

-- Idempotency keys.
CREATE TABLE IF NOT EXISTS reservation (
    app         INT UNSIGNED NOT NULL,
    word        VARBINARY(256) NOT NULL,
    id          BIGINT NOT NULL,
    fingerprint VARBINARY(64) NOT NULL,
    expires     BIGINT NOT NULL,
    PRIMARY KEY (app, word),
    KEY expiry (expires)
) ENGINE=InnoDB;

-- `body` is the app as protobuf: what an app has more of in later versions needs no column.
CREATE TABLE IF NOT EXISTS app (
    id       INT UNSIGNED NOT NULL PRIMARY KEY,
    app_key  VARBINARY(255) NOT NULL,
    revision BIGINT NOT NULL,
    body     LONGBLOB NOT NULL,
    UNIQUE KEY name (app_key),
    KEY newer (revision)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS api_key (
    hash    VARBINARY(64) NOT NULL PRIMARY KEY,
    app     INT UNSIGNED NOT NULL,
    scopes  LONGBLOB NOT NULL,
    created BIGINT NOT NULL
) ENGINE=InnoDB;

-- The present life of the shared inbox store: one row, or none before the first.
CREATE TABLE IF NOT EXISTS shared_life (
    one        TINYINT UNSIGNED NOT NULL PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    store      VARBINARY(255) NOT NULL,
    partitions INT UNSIGNED NOT NULL,
    unseen     TINYINT UNSIGNED NOT NULL
) ENGINE=InnoDB;
