-- Version 1 of the embedded archive. Never edit a version that was released: add the next one.

-- Counters that outlive every process: epoch of inbox stores, blocks of row numbers, revision of the app directory.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
-- Epochs begin at the clock, so that an archive that was deleted and made anew does not repeat the old one's.
INSERT INTO counter VALUES
    ('epoch', CAST(strftime('%s', 'now') AS INTEGER) - 1735689600),
    ('row_block', 0),
    ('app_revision', 0);

-- Payloads. A unicast's goes when its delivery is finished, a multicast's with its last delivery.
CREATE TABLE message (
    id      INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
);

-- The ledger: one row for each message and receiver. `id` is the message id of a unicast, and negative for a receiver
-- of a multicast, which has its message id in `message`. So unicasts, the common case, are appended at the end of one
-- B-tree, and need no second index.
CREATE TABLE delivery (
    id       INTEGER PRIMARY KEY,
    message  INTEGER,
    app      INTEGER NOT NULL,
    uid      TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
);
-- Inboxes: what is still stored, which is little. Holds `expires`, so that the walk for what is over reads only this.
CREATE INDEX delivery_stored ON delivery (app, uid, seq, expires) WHERE state = 0;
CREATE INDEX delivery_multicast ON delivery (message, uid) WHERE message IS NOT NULL;

-- Where each user stands in the broadcast log of its app.
CREATE TABLE cursor (
    app   INTEGER NOT NULL,
    uid   TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    bseq  INTEGER NOT NULL,
    PRIMARY KEY (app, uid)
) WITHOUT ROWID;

CREATE TABLE broadcast_log (
    app   INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    head  INTEGER NOT NULL
);

CREATE TABLE broadcast (
    id       INTEGER PRIMARY KEY,
    app      INTEGER NOT NULL,
    bseq     INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    recalled INTEGER NOT NULL,
    audience TEXT NOT NULL,
    payload  BLOB NOT NULL
);
CREATE UNIQUE INDEX broadcast_place ON broadcast (app, bseq);
CREATE INDEX broadcast_expires ON broadcast (expires);

-- Idempotency keys.
CREATE TABLE reservation (
    app         INTEGER NOT NULL,
    word        TEXT NOT NULL,
    id          INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    expires     INTEGER NOT NULL,
    PRIMARY KEY (app, word)
);
CREATE INDEX reservation_expires ON reservation (expires);

CREATE TABLE app (
    id                INTEGER PRIMARY KEY,
    key               TEXT NOT NULL UNIQUE,
    token_secret      BLOB NOT NULL,
    public_key_pem    TEXT NOT NULL,
    webhook_secret    TEXT NOT NULL,
    upstream_url      TEXT NOT NULL,
    state_url         TEXT NOT NULL,
    default_ttl_s     INTEGER NOT NULL,
    inbox_cap         INTEGER NOT NULL,
    pushes_per_second INTEGER NOT NULL,
    revision          INTEGER NOT NULL
);
CREATE INDEX app_revision ON app (revision);

CREATE TABLE api_key (
    hash    BLOB PRIMARY KEY,
    app     INTEGER NOT NULL,
    scopes  TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
