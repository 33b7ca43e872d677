-- The role of the orchestrator, which is no superuser. Without --auth it is the one user that the page has: what is
-- uploaded there is this role's, in schema public. Again with each "up", which sets the password anew.

\set password `printf %s "$RUNNER_PASSWORD"`

set password_encryption = 'scram-sha-256';

select 'create role runner login'
 where not exists (select from pg_catalog.pg_roles where rolname = 'runner')
\gexec

alter role runner password :'password';
grant tinydevcrm_orchestrator to runner;
grant usage, create on schema public to runner;
