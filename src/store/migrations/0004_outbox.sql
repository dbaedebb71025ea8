-- The outbox: what is owed to sinks, who takes it, and how sinks fare.

-- One that is there already stays: the same change was written before.
CREATE FUNCTION owe_deliveries(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
BEGIN
    IF entries IS NULL OR jsonb_array_length(entries) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO deliveries (id, revision, job_id, lane, state, due_at, lease, record)
    SELECT (d ->> 'id')::uuid, (d ->> 'revision')::bigint, (d ->> 'job_id')::uuid, d ->> 'lane', d ->> 'state',
        (d ->> 'due_at')::bigint, (d ->> 'lease')::bigint, d ->> 'record'
    FROM jsonb_array_elements(entries) AS t (d)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    UPDATE tally SET owed = owed + added WHERE slot = pg_backend_pid() % 64;
END $$;

-- Writes a step of a delivery that is locked; a body only if it has none.
CREATE FUNCTION write_delivery(d jsonb, sent bytea, by text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was_state text;
BEGIN
    SELECT state INTO was_state FROM deliveries WHERE id = (d ->> 'id')::uuid;
    UPDATE deliveries SET revision = (d ->> 'revision')::bigint, state = d ->> 'state', due_at = (d ->> 'due_at')::bigint,
        lease = (d ->> 'lease')::bigint, claimed_by = by, record = d ->> 'record', body = coalesce(body, sent)
    WHERE id = (d ->> 'id')::uuid AND revision + 1 = (d ->> 'revision')::bigint;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'delivery % was not locked', d ->> 'id';
    END IF;
    IF was_state <> d ->> 'state' THEN
        UPDATE tally SET owed = owed + (d ->> 'state' = 'pending')::int - (was_state = 'pending')::int
        WHERE slot = pg_backend_pid() % 64;
    END IF;
END $$;

CREATE FUNCTION write_sink(of_name text, is_state text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sinks VALUES (of_name, is_state) ON CONFLICT (name) DO UPDATE SET state = is_state
$$;

-- Locks a delivery and the state of its sink; answers about one sink are judged one after the other.
CREATE FUNCTION open_delivery(of_id uuid, OUT record text, OUT sink text) LANGUAGE plpgsql AS $$
DECLARE
    of_lane text;
BEGIN
    SELECT d.record, d.lane INTO record, of_lane FROM deliveries d WHERE d.id = of_id FOR UPDATE;
    PERFORM pg_advisory_xact_lock(hashtextextended(of_lane, 7305));
    SELECT s.state INTO sink FROM sinks s WHERE s.name = of_lane;
END $$;

CREATE FUNCTION count_deliveries(of_job uuid)
RETURNS TABLE (total bigint, succeeded bigint, pending bigint, exhausted bigint) LANGUAGE sql STABLE AS $$
    SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'pending'),
        count(*) FILTER (WHERE state = 'exhausted')
    FROM deliveries WHERE job_id = of_job
$$;

-- Locks what is due in a lane, with all that its body is made of.
CREATE FUNCTION claimable_deliveries(of_lane text, most bigint, at bigint)
RETURNS TABLE (record text, body bytea, job text, document bytea, total bigint, succeeded bigint, pending bigint, exhausted bigint)
LANGUAGE sql AS $$
    WITH due AS MATERIALIZED (
        SELECT * FROM deliveries WHERE lane = of_lane AND due_at <= at
        ORDER BY due_at, id LIMIT most FOR UPDATE SKIP LOCKED)
    SELECT due.record, due.body, j.record, CASE WHEN due.body IS NULL THEN r.document END, n.*
    FROM due
    LEFT JOIN jobs j ON j.id = due.job_id
    LEFT JOIN requests r ON r.job_id = due.job_id,
    LATERAL count_deliveries(due.job_id) AS n
    ORDER BY due.due_at, due.id
$$;

-- The lanes in which deliveries wait, with the first due time of each: one look into the index for each.
CREATE FUNCTION delivery_lanes() RETURNS TABLE (lane text, due bigint) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE firsts AS (
        (SELECT d.lane, d.due_at FROM deliveries d WHERE d.due_at IS NOT NULL ORDER BY d.lane, d.due_at LIMIT 1)
        UNION ALL
        SELECT n.lane, n.due_at FROM firsts, LATERAL (
            SELECT d.lane, d.due_at FROM deliveries d WHERE d.due_at IS NOT NULL AND d.lane > firsts.lane
            ORDER BY d.lane, d.due_at LIMIT 1) AS n)
    SELECT * FROM firsts
$$;
