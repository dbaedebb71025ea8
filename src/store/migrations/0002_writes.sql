-- What changes write: each function is one atomic change and takes one document, made by reelhook.
-- They are plpgsql where they could be SQL, too: a session plans those once, these with every call.

CREATE TYPE verdict AS (
    status   text,     -- what became of it
    other    uuid,     -- the job that stands in its way, or follows
    record   text,     -- of that job, where it is needed
    booked   bigint,   -- credits booked before it, where a budget refuses it
    was_duty smallint, -- whose turn it was, and since when
    was_due  bigint,
    next_due bigint    -- after a claim: when the next job of its duty is due
);

CREATE FUNCTION micros() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE FUNCTION log_events(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (id, job_id, kind, record)
    SELECT (e ->> 'id')::uuid, (e ->> 'job_id')::uuid, e ->> 'kind', e ->> 'record'
    FROM jsonb_array_elements(entries) WITH ORDINALITY AS t (e, n) ORDER BY n;
END $$;

-- One record goes, another comes; either may be null.
CREATE FUNCTION count_job(was_phase text, was_outcome text, is_phase text, is_outcome text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tally SET
        queued = queued + coalesce(is_phase = 'queued', false)::int - coalesce(was_phase = 'queued', false)::int,
        sending = sending + coalesce(is_phase = 'sending', false)::int - coalesce(was_phase = 'sending', false)::int,
        unknown = unknown + coalesce(is_phase = 'unknown', false)::int - coalesce(was_phase = 'unknown', false)::int,
        held = held + coalesce(is_phase = 'held', false)::int - coalesce(was_phase = 'held', false)::int,
        awaiting = awaiting + coalesce(is_phase = 'awaiting', false)::int - coalesce(was_phase = 'awaiting', false)::int,
        fetching = fetching + coalesce(is_phase = 'fetching', false)::int - coalesce(was_phase = 'fetching', false)::int,
        done = done + coalesce(is_phase = 'done', false)::int - coalesce(was_phase = 'done', false)::int,
        succeeded = succeeded + coalesce(is_outcome = 'succeeded', false)::int - coalesce(was_outcome = 'succeeded', false)::int,
        failed = failed + coalesce(is_outcome = 'failed', false)::int - coalesce(was_outcome = 'failed', false)::int,
        canceled = canceled + coalesce(is_outcome = 'canceled', false)::int - coalesce(was_outcome = 'canceled', false)::int
    WHERE slot = pg_backend_pid() % 64;
END $$;

CREATE FUNCTION book(of_day integer, more bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger AS l VALUES (of_day, pg_backend_pid() % 64, more)
    ON CONFLICT ON CONSTRAINT ledger_pkey DO UPDATE SET credits = l.credits + excluded.credits;
END $$;

CREATE FUNCTION booked(of_day integer, OUT today bigint, OUT in_month bigint) LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(sum(credits) FILTER (WHERE day = of_day), 0), coalesce(sum(credits), 0) INTO today, in_month
    FROM ledger, LATERAL (SELECT date_trunc('month', date '1970-01-01' + of_day)::date AS first) AS m
    WHERE day >= first - date '1970-01-01' AND day < (first + interval '1 month')::date - date '1970-01-01';
END $$;

-- The budget that a booking would exceed, in `status`; its caller is the only one who books.
CREATE FUNCTION over_budget(booking jsonb, limits jsonb) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    b record;
    wanted bigint := (booking ->> 'credits')::bigint;
    daily bigint := (limits ->> 'daily_credits')::bigint;
    monthly bigint := (limits ->> 'monthly_credits')::bigint;
BEGIN
    IF wanted IS NULL OR (daily = 0 AND monthly = 0) THEN
        RETURN v;
    END IF;
    SELECT * INTO b FROM booked((booking ->> 'day')::int);
    IF daily > 0 AND b.today + wanted > daily THEN
        v.status := 'over_daily';
        v.booked := b.today;
    ELSIF monthly > 0 AND b.in_month + wanted > monthly THEN
        v.status := 'over_monthly';
        v.booked := b.in_month;
    END IF;
    RETURN v;
END $$;

-- The job that a key made and that still holds it.
CREATE FUNCTION key_holder(k jsonb) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    holder record;
BEGIN
    SELECT h.job_id, j.id, j.record, j.outcome, h.fingerprint INTO holder
    FROM keys h LEFT JOIN jobs j ON j.id = h.job_id WHERE h.hash = decode(k ->> 'hash', 'hex');
    IF holder.id IS NULL AND EXISTS (SELECT FROM damaged d WHERE d.job_id = holder.job_id) THEN
        v.status := 'damaged';
        v.other := holder.job_id;
    ELSIF holder.id IS NOT NULL AND NOT ((k ->> 'reusable')::boolean AND holder.outcome IS NOT NULL) THEN
        v.status := CASE WHEN holder.fingerprint = decode(k ->> 'fingerprint', 'hex') THEN 'replayed' ELSE 'reused' END;
        v.other := holder.id;
        v.record := holder.record;
    END IF;
    RETURN v;
END $$;

-- Gives the key to a job; if another one was faster, says which.
CREATE FUNCTION take_key(k jsonb, taker uuid) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    of_hash bytea := decode(k ->> 'hash', 'hex');
    print bytea := decode(k ->> 'fingerprint', 'hex');
    former uuid;
BEGIN
    LOOP
        INSERT INTO keys VALUES (of_hash, print, taker) ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        v := key_holder(k);
        EXIT WHEN v.status IS NOT NULL;
        SELECT job_id INTO former FROM keys WHERE hash = of_hash;
        UPDATE keys SET fingerprint = print, job_id = taker WHERE hash = of_hash AND job_id = former;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN v;
END $$;

CREATE FUNCTION create_job(p jsonb, document bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    j jobs := jsonb_populate_record(NULL::jobs, p -> 'job');
BEGIN
    IF j.task IS NOT NULL AND NOT EXISTS (SELECT FROM jobs WHERE owned_task = j.task) THEN
        j.owned_task := j.task;
    END IF;
    INSERT INTO jobs VALUES (j.*);
    INSERT INTO requests SELECT j.id, d
    FROM (SELECT coalesce(document, (SELECT r.document FROM requests r WHERE r.job_id = j.retry_of)) AS d) AS s
    WHERE d IS NOT NULL;
    PERFORM log_events(p -> 'events');
    PERFORM owe_deliveries(p -> 'deliveries');
    PERFORM count_job(NULL, NULL, j.phase, j.outcome);
    IF p ->> 'reserved' IS NOT NULL THEN
        PERFORM book((p #>> '{reserved,day}')::int, (p #>> '{reserved,credits}')::bigint);
    END IF;
END $$;

-- Limits over all jobs are judged by one at a time (`alone`); while they are far, by any number at once.
CREATE FUNCTION insert_job(p jsonb, document bytea, alone boolean) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    k jsonb := p -> 'key';
    bound bigint := (p #>> '{limits,queued}')::bigint;
    now_queued bigint;
BEGIN
    -- Asked for again, since the answer was lost.
    IF EXISTS (SELECT FROM jobs
        WHERE id = (p #>> '{job,id}')::uuid AND written_by = (p #>> '{job,written_by}')::uuid) THEN
        v.status := 'new';
        RETURN v;
    END IF;
    IF p ->> 'key' IS NOT NULL THEN
        v := key_holder(k);
        IF v.status IS NOT NULL THEN
            RETURN v;
        END IF;
    END IF;
    IF alone THEN
        PERFORM pg_advisory_xact_lock(7304, 1);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(7304, 1);
    END IF;
    IF bound > 0 AND p #>> '{job,phase}' = 'queued' THEN
        SELECT sum(queued) INTO now_queued FROM tally;
        IF alone AND now_queued >= bound THEN
            v.status := 'queue_full';
            RETURN v;
        ELSIF NOT alone AND now_queued + current_setting('max_connections')::int >= bound THEN
            v.status := 'near_a_limit';
            RETURN v;
        END IF;
    END IF;
    v := over_budget(p -> 'reserved', p -> 'limits');
    IF v.status IS NOT NULL THEN
        RETURN v;
    END IF;
    IF p ->> 'key' IS NOT NULL THEN
        v := take_key(k, (p #>> '{job,id}')::uuid);
        IF v.status IS NOT NULL THEN
            RETURN v;
        END IF;
    END IF;
    PERFORM create_job(p, document);
    v.status := 'new';
    RETURN v;
END $$;

-- Writes a change if the record still has the revision before it.
CREATE FUNCTION replace_job(p jsonb) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    j jobs := jsonb_populate_record(NULL::jobs, p -> 'job');
    was record;
    next jsonb := p -> 'successor';
    owner uuid;
BEGIN
    SELECT revision, written_by, phase, outcome, task, owned_task, duty, due_at INTO was
    FROM jobs WHERE id = j.id FOR UPDATE;
    -- Asked for again, since the answer was lost.
    IF was.revision = j.revision AND was.written_by = j.written_by THEN
        v.status := 'done';
        IF p ->> 'successor' IS NOT NULL THEN
            v.other := (key_holder(next -> 'key')).other;
        END IF;
        RETURN v;
    END IF;
    IF was.revision IS NULL OR was.revision + 1 <> j.revision THEN
        v.status := 'stale';
        RETURN v;
    END IF;
    IF (p ->> 'budgeted')::boolean THEN
        PERFORM pg_advisory_xact_lock(7304, 1);
        v := over_budget(next -> 'reserved', p -> 'limits');
        IF v.status IS NOT NULL THEN
            RETURN v;
        END IF;
    END IF;
    IF j.task IS NOT DISTINCT FROM was.task THEN
        j.owned_task := was.owned_task;
    ELSIF j.task IS NOT NULL THEN
        SELECT id INTO owner FROM jobs WHERE owned_task = j.task;
        IF owner IS NULL THEN
            j.owned_task := j.task;
        ELSIF NOT (p ->> 'may_share')::boolean THEN
            v.status := 'task_taken';
            v.other := owner;
            RETURN v;
        END IF;
    END IF;
    UPDATE jobs SET revision = j.revision, schema = j.schema, written_by = j.written_by, phase = j.phase,
        outcome = j.outcome, duty = j.duty, calm = j.calm, due_at = j.due_at, deadline = j.deadline, lease = j.lease,
        task = j.task, owned_task = j.owned_task, model = j.model, tags = j.tags, via = j.via, record = j.record
    WHERE id = j.id;
    PERFORM log_events(p -> 'events');
    IF was.phase <> j.phase THEN
        PERFORM count_job(was.phase, was.outcome, j.phase, j.outcome);
    END IF;
    PERFORM owe_deliveries(p -> 'deliveries');
    PERFORM book((b ->> 'day')::int, (b ->> 'credits')::bigint) FROM jsonb_array_elements(p -> 'bookings') AS t (b);
    v.status := 'done';
    v.was_duty := was.duty;
    v.was_due := was.due_at;
    IF p ->> 'successor' IS NOT NULL THEN
        v.other := follow_job(next);
    END IF;
    RETURN v;
END $$;

-- Creates a successor, or finds the one that there is.
CREATE FUNCTION follow_job(next jsonb) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := (next #>> '{job,id}')::uuid;
    holder verdict := take_key(next -> 'key', id);
BEGIN
    IF holder.status IS NOT NULL THEN
        RETURN holder.other;
    END IF;
    PERFORM create_job(next, NULL);
    RETURN id;
END $$;
