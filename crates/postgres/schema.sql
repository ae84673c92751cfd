-- The tables of trunkline-postgres. Nodes create what is missing; where they may not (create_tables=off), run this once per database.

-- Large and binary messages, put aside for the node that reads their notification; shared with @socket.io/postgres-adapter.
CREATE TABLE IF NOT EXISTS socket_io_attachments (
    id         bigserial UNIQUE,
    created_at timestamptz DEFAULT now(),
    payload    bytea
);

-- history: the rest is needed only with history=on.

-- Messages for clients that come back, in the order of their commits. Origin and number tell a repeated message from a new one.
CREATE TABLE IF NOT EXISTS socket_io_events (
    id         bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    channel    text NOT NULL,
    origin     text,
    number     bigint,
    payload    bytea NOT NULL,
    UNIQUE (origin, number)
);

-- Offsets start at the time of creation, so that those of an earlier table are never mistaken for new ones.
SELECT setval(pg_get_serial_sequence('socket_io_events', 'id'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
WHERE NOT EXISTS (SELECT FROM socket_io_events);

-- There is always a last message, also before the first: a node that starts now starts after it.
INSERT INTO socket_io_events (channel, payload) SELECT '', '' WHERE NOT EXISTS (SELECT FROM socket_io_events);

-- Sessions of clients that may come back.
CREATE TABLE IF NOT EXISTS socket_io_sessions (
    channel    text NOT NULL,
    id         text NOT NULL,
    expires_at timestamptz NOT NULL,
    payload    bytea NOT NULL,
    PRIMARY KEY (channel, id)
);
