-- What is due, who takes it, and the numbers of the event log.

-- Locks what is due, urgent work first, for whoever asks to write the claims in the same transaction. Create calls
-- are bounded over all instances, and so is the pace of all calls to the upstream: `every` microseconds.
CREATE FUNCTION claimable(wanted smallint, most bigint, at bigint, in_flight bigint, every bigint, probe_after bigint)
RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    g gate;
    n bigint := most;
    got bigint;
    taken bigint := 0;
    bounded boolean := wanted = 1 OR (wanted = 2 AND every > 0);
BEGIN
    IF bounded THEN
        SELECT * INTO g FROM gate FOR UPDATE;
        IF every > 0 THEN
            IF g.tat > micros() THEN
                RETURN;
            END IF;
            n := least(n, 1);
        END IF;
    END IF;
    IF wanted = 1 THEN
        IF g.refusals > 0 THEN
            IF g.paused_until > at THEN
                RETURN;
            END IF;
            n := least(n, 1);
        END IF;
        SELECT least(n, in_flight - sum(sending + unknown + awaiting)) INTO n FROM tally;
    END IF;
    FOR urgency IN 0..1 LOOP
        EXIT WHEN n <= taken;
        RETURN QUERY SELECT j.record FROM jobs j
            WHERE j.duty = wanted AND j.calm = (urgency = 1) AND j.due_at <= at AND j.schema <= 1
                AND (wanted <> 1 OR j.deadline IS NULL OR j.deadline > at)
            ORDER BY j.due_at, j.id LIMIT n - taken FOR UPDATE SKIP LOCKED;
        GET DIAGNOSTICS got = ROW_COUNT;
        taken := taken + got;
    END LOOP;
    IF wanted = 5 AND n > taken THEN
        RETURN QUERY SELECT j.record FROM jobs j
            WHERE j.phase = 'queued' AND j.deadline <= at AND j.schema <= 1
            ORDER BY j.deadline, j.id LIMIT n - taken FOR UPDATE SKIP LOCKED;
    END IF;
    IF bounded AND taken > 0 THEN
        UPDATE gate SET tat = greatest(tat, micros()) + every * taken,
            refusals = refusals + (wanted = 1 AND refusals > 0)::int,
            paused_until = CASE WHEN wanted = 1 AND refusals > 0 THEN at + pause_of(refusals + 1, probe_after)
                ELSE paused_until END;
    END IF;
END $$;

-- How long create calls rest after so many refusals in a row.
CREATE FUNCTION pause_of(refusals integer, first bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT first * least(40, power(2, least(refusals, 10) - 1)::bigint) $$;

CREATE FUNCTION next_due(wanted smallint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT min(at) FROM (
        (SELECT due_at AS at FROM jobs WHERE duty = wanted AND NOT calm ORDER BY due_at, id LIMIT 1)
        UNION ALL (SELECT due_at FROM jobs WHERE duty = wanted AND calm ORDER BY due_at, id LIMIT 1)
        UNION ALL (SELECT deadline FROM jobs WHERE wanted = 5 AND phase = 'queued' AND deadline IS NOT NULL
            ORDER BY deadline, id LIMIT 1)) AS firsts);
END $$;

-- Claims the job that the caller has in hand, if it is the one whose turn it is. Otherwise nothing of this happened.
CREATE FUNCTION claim_known(
    p jsonb, wanted smallint, at bigint, in_flight bigint, every bigint, probe_after bigint
) RETURNS verdict LANGUAGE plpgsql AS $$
DECLARE
    v verdict;
    first text;
BEGIN
    SELECT c INTO first FROM claimable(wanted, 1, at, in_flight, every, probe_after) AS c;
    IF first IS NULL THEN
        v.status := 'nothing';
        RETURN v;
    END IF;
    IF NOT EXISTS (SELECT FROM jobs j WHERE j.id = (p #>> '{job,id}')::uuid
        AND j.revision + 1 = (p #>> '{job,revision}')::bigint AND j.record = first) THEN
        RAISE EXCEPTION 'it is the turn of another job' USING ERRCODE = 'RH001';
    END IF;
    v := replace_job(p);
    v.next_due := next_due(wanted);
    RETURN v;
END $$;

-- Locks the job of a callback, or the place of one that has no record.
CREATE FUNCTION hear(job uuid, of_delivery bigint, OUT record text, OUT newer boolean, OUT seen boolean)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT j.record, j.schema > 1 INTO record, newer FROM jobs j WHERE j.id = job FOR UPDATE;
    IF record IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(job::text, 7304));
        seen := EXISTS (SELECT FROM strays s WHERE s.job_id = job AND s.delivery = of_delivery);
    ELSE
        seen := EXISTS (SELECT FROM heard h WHERE h.job_id = job AND h.delivery = of_delivery);
    END IF;
END $$;

-- Remembers a callback for a job that has no record, if it stays within the share of the job and that of all such jobs.
CREATE FUNCTION take_stray(
    of_job uuid, of_delivery bigint, kept bigint,
    job_entries bigint, job_bytes bigint, all_entries bigint, all_bytes bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    n record;
BEGIN
    -- One at a time: the sum is exact.
    PERFORM pg_advisory_xact_lock(7304, 3);
    SELECT count(*) AS entries, coalesce(sum(bytes), 0) AS bytes,
        count(*) FILTER (WHERE job_id = of_job) AS of_job,
        coalesce(sum(bytes) FILTER (WHERE job_id = of_job), 0) AS bytes_of_job
    INTO n FROM strays;
    IF n.entries >= all_entries OR n.bytes + kept > all_bytes
        OR n.of_job >= job_entries OR n.bytes_of_job + kept > job_bytes THEN
        RETURN false;
    END IF;
    INSERT INTO strays VALUES (of_job, of_delivery, kept);
    RETURN true;
END $$;

-- When the oldest open job of each phase was created: one look into the index for each.
CREATE FUNCTION oldest_open() RETURNS TABLE (phase text, created_at bigint) LANGUAGE sql STABLE AS $$
    SELECT p.phase, j.created_at
    FROM unnest(ARRAY['queued', 'sending', 'unknown', 'held', 'awaiting', 'fetching']) AS p (phase),
    LATERAL (
        SELECT o.created_at FROM jobs o WHERE o.phase = p.phase AND o.phase <> 'done' ORDER BY o.id LIMIT 1) AS j
$$;

-- Gives numbers to events that have none, if nobody else is at it. Each statement sees what was committed before it,
-- so what is numbered here follows everything that was numbered before.
-- The index of what has no number is full of entries of what has one by now. An index scan marks those as dead and steps
-- over them from then on; a bitmap scan, which the planner would like, looks each of them up again every time.
CREATE FUNCTION number_events(OUT mine boolean, OUT numbered bigint) LANGUAGE plpgsql
SET enable_bitmapscan = off SET enable_seqscan = off SET jit = off AS $$
DECLARE
    head bigint;
    place tid;
BEGIN
    numbered := 0;
    mine := pg_try_advisory_xact_lock(7304, 2);
    IF NOT mine THEN
        RETURN;
    END IF;
    FOR place IN SELECT ctid FROM events WHERE seq IS NULL ORDER BY ins LIMIT 2000 LOOP
        IF numbered = 0 THEN
            SELECT newest INTO head FROM log_head WHERE one FOR UPDATE;
        END IF;
        numbered := numbered + 1;
        UPDATE events SET seq = head + numbered WHERE ctid = place;
    END LOOP;
    IF numbered > 0 THEN
        UPDATE log_head SET newest = head + numbered WHERE one;
        PERFORM pg_notify('reelhook', current_setting('application_name'));
    END IF;
END $$;

-- For imports: a job of another store. The first that names a task has it.
CREATE FUNCTION import_job(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    j jobs := jsonb_populate_record(NULL::jobs, p);
BEGIN
    IF EXISTS (SELECT FROM jobs WHERE owned_task = j.owned_task) THEN
        j.owned_task := NULL;
    END IF;
    INSERT INTO jobs VALUES (j.*);
END $$;

-- For imports: counts every job anew.
CREATE FUNCTION count_all() RETURNS void LANGUAGE sql AS $$
    UPDATE tally SET
        queued = n.queued, sending = n.sending, unknown = n.unknown, held = n.held, awaiting = n.awaiting,
        fetching = n.fetching, done = n.done, succeeded = n.succeeded, failed = n.failed, canceled = n.canceled
    FROM (SELECT
        count(*) FILTER (WHERE phase = 'queued') AS queued, count(*) FILTER (WHERE phase = 'sending') AS sending,
        count(*) FILTER (WHERE phase = 'unknown') AS unknown, count(*) FILTER (WHERE phase = 'held') AS held,
        count(*) FILTER (WHERE phase = 'awaiting') AS awaiting, count(*) FILTER (WHERE phase = 'fetching') AS fetching,
        count(*) FILTER (WHERE phase = 'done') AS done, count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE outcome = 'failed') AS failed, count(*) FILTER (WHERE outcome = 'canceled') AS canceled
        FROM jobs) AS n
    WHERE slot = 0
$$;
