-- Imports insert many jobs at once.
DROP FUNCTION import_job;
