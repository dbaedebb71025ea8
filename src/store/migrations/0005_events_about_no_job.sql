-- A delivery may be about the server and no job: that callbacks fell silent, or that a budget is nearly used up.
ALTER TABLE deliveries ALTER COLUMN job_id DROP NOT NULL;
