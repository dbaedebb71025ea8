-- Callbacks that come at the same time are judged and written together. The functions keep to the indexes, whatever the
-- size of the tables was when their plans were made.

-- Locks the jobs of callbacks, but for those that somebody else has in hand or that a newer reelhook wrote.
CREATE FUNCTION hear_together(of_jobs uuid[], of_deliveries bigint[])
RETURNS TABLE (place bigint, record text, seen boolean) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    locked uuid[];
BEGIN
    SELECT array_agg(l.id) INTO locked FROM (
        SELECT j.id FROM jobs j WHERE j.id = ANY (of_jobs) AND j.schema <= 1 FOR UPDATE SKIP LOCKED) AS l;
    -- With a look of its own: it sees what was committed before the lock was had.
    RETURN QUERY SELECT c.place, j.record, h.job_id IS NOT NULL
        FROM unnest(of_jobs, of_deliveries) WITH ORDINALITY AS c (job, delivery, place)
        JOIN jobs j ON j.id = c.job
        LEFT JOIN heard h ON h.job_id = c.job AND h.delivery = c.delivery
        WHERE c.job = ANY (locked);
END $$;

-- Writes changes of locked jobs that touch nothing but their own job: what they are looked up by, beside when they are due,
-- is as it was.
CREATE FUNCTION replace_together(p jsonb) RETURNS void LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    written bigint;
BEGIN
    UPDATE jobs AS j SET revision = n.revision, schema = n.schema, written_by = n.written_by, duty = n.duty,
        calm = n.calm, due_at = n.due_at, lease = n.lease, record = n.record
    FROM jsonb_populate_recordset(NULL::jobs, p -> 'jobs') AS n
    WHERE j.id = n.id AND j.revision + 1 = n.revision
        AND (j.phase, j.outcome, j.deadline, j.task, j.model, j.tags, j.via)
            IS NOT DISTINCT FROM (n.phase, n.outcome, n.deadline, n.task, n.model, n.tags, n.via);
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> jsonb_array_length(p -> 'jobs') THEN
        RAISE EXCEPTION '% changes are not plain, or of jobs that are not locked', jsonb_array_length(p -> 'jobs') - written;
    END IF;
    PERFORM log_events(p -> 'events');
    PERFORM owe_deliveries(p -> 'deliveries');
END $$;

-- As before, but all in one statement. Who numbers is alone by the first lock; the second waits for an import or a restore
-- under way, which lift the head: it is read after them. Where there is nothing to number nobody is waited for.
CREATE OR REPLACE FUNCTION number_events(OUT mine boolean, OUT numbered bigint) LANGUAGE plpgsql
SET enable_bitmapscan = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    head bigint;
BEGIN
    numbered := 0;
    mine := pg_try_advisory_xact_lock(7304, 2);
    IF NOT mine THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM events WHERE seq IS NULL) THEN
        RETURN;
    END IF;
    LOCK TABLE events, log_head IN ROW EXCLUSIVE MODE;
    SELECT newest INTO head FROM log_head WHERE one;
    -- By an index scan: it marks the entries of what has its number by now as dead, and steps over them from then on.
    UPDATE events e SET seq = head + f.n
    FROM (
        SELECT o.place, row_number() OVER (ORDER BY o.ins) AS n
        FROM (SELECT ctid AS place, ins FROM events WHERE seq IS NULL ORDER BY ins LIMIT 2000) AS o) AS f
    WHERE e.ctid = f.place;
    GET DIAGNOSTICS numbered = ROW_COUNT;
    IF numbered > 0 THEN
        UPDATE log_head SET newest = head + numbered WHERE one AND newest = head;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'somebody else numbers the events';
        END IF;
        PERFORM pg_notify('reelhook', current_setting('application_name'));
    END IF;
END $$;
