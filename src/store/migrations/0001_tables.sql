-- What is remembered. A record is JSON text, written and read by reelhook alone; the columns beside it are what
-- it is looked up by, and the CHECKs restate the rules that every record keeps.
-- Times are milliseconds since 1970-01-01T00:00:00Z, but for gate.tat.

CREATE TABLE jobs (
    id         uuid PRIMARY KEY,
    revision   bigint NOT NULL CHECK (revision >= 1),
    schema     smallint NOT NULL,          -- of the record: an older reelhook leaves newer ones alone
    written_by uuid NOT NULL,              -- the write that made this revision: an unknown commit is read back by it
    phase      text NOT NULL CHECK (phase IN ('queued', 'sending', 'unknown', 'held', 'awaiting', 'fetching', 'done')),
    outcome    text CHECK (outcome IN ('succeeded', 'failed', 'canceled')),
    duty       smallint,                   -- whose turn it is: 1 submit, 2 ask, 3 fetch, 5 expire
    calm       boolean NOT NULL,           -- false: a callback asked for it, goes first
    due_at     bigint,
    deadline   bigint,                     -- of a queued job
    lease      bigint,
    task       text CHECK (length(task) <= 128),
    owned_task text UNIQUE,                -- the task, unless this job shares it with the one that it follows
    model      text NOT NULL,
    tags       text[] NOT NULL,
    via        text,
    created_at bigint NOT NULL,
    retry_of   uuid,
    record     text NOT NULL,
    CONSTRAINT due_unless_held_or_settled CHECK ((due_at IS NULL) = (phase IN ('held', 'done'))),
    CONSTRAINT a_duty_exactly_when_due CHECK ((duty IS NULL) = (due_at IS NULL)),
    CONSTRAINT the_duty_of_its_phase CHECK (CASE phase
        WHEN 'queued' THEN duty = 1
        WHEN 'sending' THEN duty = 5
        WHEN 'unknown' THEN duty = 5
        WHEN 'awaiting' THEN duty = 2
        WHEN 'fetching' THEN duty IN (2, 3)
        ELSE duty IS NULL END),
    CONSTRAINT an_outcome_exactly_when_settled CHECK ((outcome IS NOT NULL) = (phase = 'done')),
    CONSTRAINT a_lease_is_a_revision_that_was_written CHECK (lease <= revision),
    CONSTRAINT sending_is_always_claimed CHECK (phase <> 'sending' OR lease IS NOT NULL),
    CONSTRAINT only_a_call_is_claimed CHECK (lease IS NULL OR phase IN ('sending', 'awaiting', 'fetching')),
    CONSTRAINT awaiting_and_fetching_have_a_task CHECK (phase NOT IN ('awaiting', 'fetching') OR task IS NOT NULL),
    CONSTRAINT only_its_own_task_is_owned CHECK (owned_task IS NULL OR owned_task = task)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- In the order in which work is taken.
CREATE INDEX jobs_due ON jobs (duty, calm, due_at, id) WHERE duty IS NOT NULL;
-- For lists of open jobs, and the oldest of each phase.
CREATE INDEX jobs_open ON jobs (phase, id) WHERE phase <> 'done';
CREATE INDEX jobs_deadline ON jobs (deadline, id) WHERE phase = 'queued' AND deadline IS NOT NULL;

-- Requests, byte for byte.
CREATE TABLE requests (
    job_id   uuid PRIMARY KEY,
    document bytea NOT NULL
);

-- The event log. Entries commit without a number and are numbered by one at a time: readers see numbered ones only,
-- so a number that is read is never followed by a lower one.
CREATE TABLE events (
    id     uuid PRIMARY KEY,
    ins    bigint GENERATED ALWAYS AS IDENTITY,
    seq    bigint,
    job_id uuid, -- none of an event about a sink
    kind   text NOT NULL,
    record text NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX events_without_number ON events (ins) WHERE seq IS NULL;
-- Only of numbered ones: an entry is written once, not again with its number.
CREATE UNIQUE INDEX events_seq ON events (seq) WHERE seq IS NOT NULL;
CREATE INDEX events_of_job ON events (job_id, seq) WHERE seq IS NOT NULL;

CREATE TABLE log_head (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    newest bigint NOT NULL CHECK (newest >= 0)
);
INSERT INTO log_head VALUES (true, 0);

-- The inbound log, and by what repeats are known.
CREATE TABLE callbacks (
    id      uuid PRIMARY KEY,
    job_id  uuid NOT NULL,
    verdict text NOT NULL,
    record  text NOT NULL,
    body    bytea NOT NULL
);
CREATE INDEX callbacks_of_job ON callbacks (job_id, id);

CREATE TABLE heard (
    job_id   uuid NOT NULL,
    delivery bigint NOT NULL,
    PRIMARY KEY (job_id, delivery)
);

-- The same for jobs that have no record, with the bytes that are kept of each. A few thousand at most.
CREATE TABLE strays (
    job_id   uuid NOT NULL,
    delivery bigint NOT NULL,
    bytes    bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (job_id, delivery)
);

-- Idempotency keys, by the hash of owner and key.
CREATE TABLE keys (
    hash        bytea PRIMARY KEY CHECK (length(hash) = 16),
    fingerprint bytea NOT NULL,
    job_id      uuid NOT NULL
);

-- Values of another store that could not be read. A key whose job is among them makes no second one.
CREATE TABLE damaged (
    job_id uuid,
    value  text NOT NULL
);
CREATE INDEX damaged_jobs ON damaged (job_id);

-- Debts to sinks, each with what is sent for it once it was claimed.
CREATE TABLE deliveries (
    id         uuid PRIMARY KEY,
    revision   bigint NOT NULL CHECK (revision >= 1),
    job_id     uuid NOT NULL,
    lane       text NOT NULL CHECK (lane <> ''),
    state      text NOT NULL CHECK (state IN ('pending', 'succeeded', 'exhausted')),
    due_at     bigint,
    lease      bigint,
    claimed_by text,
    record     text NOT NULL,
    body       bytea,
    CONSTRAINT due_exactly_while_pending CHECK ((due_at IS NOT NULL) = (state = 'pending')),
    CONSTRAINT only_what_is_pending_is_claimed CHECK (lease IS NULL OR state = 'pending'),
    CONSTRAINT a_lease_is_a_revision_that_was_written CHECK (lease <= revision)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX deliveries_due ON deliveries (lane, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_of_job ON deliveries (job_id, id);
CREATE INDEX deliveries_claimed ON deliveries (claimed_by) WHERE lease IS NOT NULL;

-- How sinks fare.
CREATE TABLE sinks (
    name  text PRIMARY KEY,
    state text NOT NULL
);

-- Jobs by phase and outcome, and deliveries that are owed: the sum over the slots. Each connection writes to one slot, so that changes of
-- different jobs do not wait for each other.
CREATE TABLE tally (
    slot      smallint PRIMARY KEY,
    queued    bigint NOT NULL DEFAULT 0,
    sending   bigint NOT NULL DEFAULT 0,
    unknown   bigint NOT NULL DEFAULT 0,
    held      bigint NOT NULL DEFAULT 0,
    awaiting  bigint NOT NULL DEFAULT 0,
    fetching  bigint NOT NULL DEFAULT 0,
    done      bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    canceled  bigint NOT NULL DEFAULT 0,
    owed      bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO tally (slot) SELECT * FROM generate_series(0, 63);

-- Credits booked on a day (since 1970-01-01, UTC): the sum over the slots.
CREATE TABLE ledger (
    day     integer NOT NULL,
    slot    smallint NOT NULL,
    credits bigint NOT NULL,
    PRIMARY KEY (day, slot)
) WITH (fillfactor = 20);

-- What all instances keep together towards the upstream. tat, in microseconds: no call before it.
CREATE TABLE gate (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    tat          bigint NOT NULL DEFAULT 0,
    refusals     integer NOT NULL DEFAULT 0,
    paused_until bigint NOT NULL DEFAULT 0,
    why          text,
    accepted_at  bigint
) WITH (fillfactor = 20);
INSERT INTO gate DEFAULT VALUES;

-- Values that are made once and kept for ever.
CREATE TABLE kept (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);
