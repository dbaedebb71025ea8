-- Imports insert many jobs at once.
DROP FUNCTION import_job;

-- For imports: counts every job anew, and every delivery that is owed.
CREATE OR REPLACE FUNCTION count_all() RETURNS void LANGUAGE sql AS $$
    UPDATE tally SET
        queued = n.queued, sending = n.sending, unknown = n.unknown, held = n.held, awaiting = n.awaiting,
        fetching = n.fetching, done = n.done, succeeded = n.succeeded, failed = n.failed, canceled = n.canceled,
        owed = (SELECT count(*) FROM deliveries WHERE state = 'pending')
    FROM (SELECT
        count(*) FILTER (WHERE phase = 'queued') AS queued, count(*) FILTER (WHERE phase = 'sending') AS sending,
        count(*) FILTER (WHERE phase = 'unknown') AS unknown, count(*) FILTER (WHERE phase = 'held') AS held,
        count(*) FILTER (WHERE phase = 'awaiting') AS awaiting, count(*) FILTER (WHERE phase = 'fetching') AS fetching,
        count(*) FILTER (WHERE phase = 'done') AS done, count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE outcome = 'failed') AS failed, count(*) FILTER (WHERE outcome = 'canceled') AS canceled
        FROM jobs) AS n
    WHERE slot = 0
$$;
