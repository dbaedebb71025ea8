-- What is forgotten after its time.

CREATE INDEX keys_of_job ON keys (job_id);

-- A job that has ended, still has this revision and is owed no delivery, with all that belongs to it.
CREATE FUNCTION forget_job(of_job uuid, of_revision bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was record;
BEGIN
    SELECT phase, outcome INTO was FROM jobs
    WHERE id = of_job AND revision = of_revision AND phase = 'done' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Locked first: whoever replays one of them is waited for, or waits and finds it gone.
    PERFORM FROM deliveries WHERE job_id = of_job ORDER BY id FOR UPDATE;
    IF EXISTS (SELECT FROM deliveries WHERE job_id = of_job AND state = 'pending') THEN
        RETURN false;
    END IF;
    DELETE FROM deliveries WHERE job_id = of_job;
    DELETE FROM requests WHERE job_id = of_job;
    DELETE FROM heard WHERE job_id = of_job;
    DELETE FROM keys WHERE job_id = of_job;
    DELETE FROM jobs WHERE id = of_job;
    PERFORM count_job(was.phase, was.outcome, NULL, NULL);
    RETURN true;
END $$;

CREATE TYPE swept AS (
    number  bigint, -- how many
    bytes   bigint, -- what they took
    oldest  uuid,   -- by whose id the time is known
    read_to text,   -- how far it came
    more    boolean
);

-- Events from the oldest on, up to the first that is not old; the newest stays.
CREATE FUNCTION sweep_events(old uuid, after bigint, most bigint, dry boolean) RETURNS swept LANGUAGE plpgsql AS $$
DECLARE
    s swept;
BEGIN
    WITH looked AS (
        SELECT e.seq, e.id, e.record FROM events e
        WHERE e.seq > after AND e.seq < (SELECT newest FROM log_head) ORDER BY e.seq LIMIT most),
    gone AS (
        SELECT l.seq, l.id, octet_length(l.record) AS bytes FROM looked l
        WHERE l.seq < coalesce((SELECT min(k.seq) FROM looked k WHERE k.id >= old), l.seq + 1))
    SELECT count(*), coalesce(sum(g.bytes), 0), (array_agg(g.id ORDER BY g.seq))[1],
        coalesce(max(g.seq), after)::text, count(*) = most
    INTO s FROM gone g;
    IF NOT dry AND s.number > 0 THEN
        DELETE FROM events e WHERE e.seq > after AND e.seq <= s.read_to::bigint;
        GET DIAGNOSTICS s.number = ROW_COUNT; -- another instance may have been faster
    END IF;
    RETURN s;
END $$;

-- Callbacks; the places of those for jobs without a record go with the last one of each job.
CREATE FUNCTION sweep_callbacks(old uuid, after uuid, most bigint, dry boolean) RETURNS swept LANGUAGE plpgsql AS $$
DECLARE
    s swept;
    ids uuid[];
    jobs uuid[];
BEGIN
    SELECT count(*), coalesce(sum(octet_length(c.record) + octet_length(c.body)), 0), (array_agg(c.id ORDER BY c.id))[1],
        coalesce((array_agg(c.id ORDER BY c.id DESC))[1], after)::text, count(*) = most,
        array_agg(c.id), array_agg(DISTINCT c.job_id)
    INTO s.number, s.bytes, s.oldest, s.read_to, s.more, ids, jobs
    FROM (SELECT * FROM callbacks WHERE id > after AND id < old ORDER BY id LIMIT most) AS c;
    IF NOT dry AND s.number > 0 THEN
        DELETE FROM callbacks WHERE id = ANY (ids);
        GET DIAGNOSTICS s.number = ROW_COUNT;
        DELETE FROM strays t WHERE t.job_id = ANY (jobs)
            AND NOT EXISTS (SELECT FROM callbacks c WHERE c.job_id = t.job_id);
    END IF;
    RETURN s;
END $$;

CREATE FUNCTION sweep_bodies(old uuid, after uuid, most bigint, dry boolean) RETURNS swept LANGUAGE plpgsql AS $$
DECLARE
    s swept;
BEGIN
    SELECT count(*) FILTER (WHERE c.size > 0), coalesce(sum(c.size), 0),
        (array_agg(c.id ORDER BY c.id) FILTER (WHERE c.size > 0))[1],
        coalesce((array_agg(c.id ORDER BY c.id DESC))[1], after)::text, count(*) = most
    INTO s
    FROM (SELECT id, octet_length(body) AS size FROM callbacks WHERE id > after AND id < old ORDER BY id LIMIT most) AS c;
    IF NOT dry AND s.number > 0 THEN
        UPDATE callbacks SET body = '' WHERE id > after AND id <= s.read_to::uuid AND octet_length(body) > 0;
        GET DIAGNOSTICS s.number = ROW_COUNT;
    END IF;
    RETURN s;
END $$;

-- Deliveries that are over since `before`, as far as their tries tell.
CREATE FUNCTION sweep_deliveries(old uuid, after uuid, most bigint, dry boolean, before bigint) RETURNS swept
LANGUAGE plpgsql AS $$
DECLARE
    s swept;
    ids uuid[];
BEGIN
    SELECT count(*) FILTER (WHERE d.over), coalesce(sum(d.size) FILTER (WHERE d.over), 0),
        (array_agg(d.id ORDER BY d.id) FILTER (WHERE d.over))[1],
        coalesce((array_agg(d.id ORDER BY d.id DESC))[1], after)::text, count(*) = most,
        array_agg(d.id) FILTER (WHERE d.over)
    INTO s.number, s.bytes, s.oldest, s.read_to, s.more, ids
    FROM (
        SELECT id, octet_length(record) + coalesce(octet_length(body), 0) AS size,
            state <> 'pending' AND coalesce((record::json -> 'tries' -> -1 ->> 'at')::bigint, 0) < before AS over
        FROM deliveries WHERE id > after AND id < old ORDER BY id LIMIT most) AS d;
    IF NOT dry AND s.number > 0 THEN
        -- One that was replayed meanwhile stays.
        DELETE FROM deliveries WHERE id = ANY (ids) AND state <> 'pending';
        GET DIAGNOSTICS s.number = ROW_COUNT;
    END IF;
    RETURN s;
END $$;
