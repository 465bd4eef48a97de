-- Version 2: inbox stores that several savers share, and apps as a whole.

-- The present life of the shared store: one row, or none before the first.
CREATE TABLE shared_life (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    epoch      INTEGER NOT NULL,
    store      TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    unseen     INTEGER NOT NULL
);

-- How often deliveries were forgotten, and the greatest message id of those that were.
INSERT INTO counter VALUES ('forgets', 0), ('forgotten', 0);

-- The app as protobuf: what an app has more of in later versions needs no column. An app of version 1 has none.
ALTER TABLE app ADD COLUMN body BLOB;
