-- Gives a coordinator its own address and that of a worker, as the nodes reach each other. Each node has
-- the same database, with the extension in it, on port 5432. Safe to run again, and once for each worker:
--
--   psql "$DATABASE_URL" -v coordinator=10.0.0.10 -v worker=10.0.0.11 -f extensions/citus/nodes.sql

\set ON_ERROR_STOP on

-- The workers call back by this address; 'localhost', the default, would be themselves.
select citus_set_coordinator_host(:'coordinator', 5432);
select citus_add_node(:'worker', 5432);
