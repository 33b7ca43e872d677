-- The log of imports.

create table tinydevcrm.import_modes (
    name        text not null,
    rank        integer not null,
    label       text not null,
    description text not null,
    takes_key   boolean not null default false,

    constraint import_modes_pkey primary key (name),
    constraint import_modes_rank_unique unique (rank)
);

comment on table tinydevcrm.import_modes is
    'What an import does with an existing table: values of tinydevcrm.imports.mode. Where there is '
    'no table of that name, each mode creates it.';
comment on column tinydevcrm.import_modes.name is
    'The mode.';
comment on column tinydevcrm.import_modes.rank is
    'Its place in a list; that of rank 1 is the default.';
comment on column tinydevcrm.import_modes.label is
    'What it does, in a few words that go on from "if the table exists".';
comment on column tinydevcrm.import_modes.description is
    'What it does, in one sentence.';
comment on column tinydevcrm.import_modes.takes_key is
    'Whether it needs a key, the columns by which it finds a row; other modes refuse one.';

insert into tinydevcrm.import_modes (rank, name, label, description, takes_key)
values (1, 'create', 'stop: only create a new table',
        'Creates a table, and refuses the name of an existing one.', false),
       (2, 'replace', 'replace its rows',
        'The new rows take the place of the old.', false),
       (3, 'append', 'append to its rows',
        'The new rows are added to the old.', false),
       (4, 'upsert', 'update rows of the same key, append others',
        'Rows of the same key are updated, others are added.', true);

alter table tinydevcrm.import_modes enable row level security;

create policy import_modes_read on tinydevcrm.import_modes
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.import_modes to tinydevcrm_user;

create table tinydevcrm.imports (
    id            bigint generated always as identity,
    owner         regrole not null default quote_ident(current_user)::regrole,
    source        text not null,
    mode          text not null,
    key           text[],
    schema_name   name not null,
    table_name    name not null,
    relation      regclass,
    dialect       tinydevcrm.csv_dialect,
    columns       jsonb not null default '[]',
    row_count     bigint,
    byte_count    bigint,
    problem_count bigint not null default 0,
    reject_count  bigint not null default 0,
    rewrite_count integer not null default 0,
    distribute_by text,
    options       jsonb not null default '{}',
    distribution  text,
    notices       text[] not null default '{}',
    started_at    timestamptz not null default clock_timestamp(),
    finished_at   timestamptz,
    file_state    text,

    constraint imports_pkey primary key (id),
    constraint imports_mode_fkey foreign key (mode)
        references tinydevcrm.import_modes (name),
    constraint imports_key_of_upsert check ((mode = 'upsert') = (key is not null)),
    constraint imports_row_count_not_negative check (row_count >= 0),
    constraint imports_byte_count_not_negative check (byte_count >= 0),
    constraint imports_problem_count_not_negative check (problem_count >= 0),
    constraint imports_reject_count_range check (reject_count between 0 and problem_count),
    constraint imports_rewrite_count_not_negative check (rewrite_count >= 0),
    constraint imports_source_length check (octet_length(source) <= 1000),
    constraint imports_key_length check (octet_length(key::text) <= 10000),
    constraint imports_dialect_length check (octet_length(dialect::text) <= 4000),
    constraint imports_columns_length check (octet_length(columns::text) <= 4000000),
    constraint imports_distribute_by_length check (octet_length(distribute_by) <= 63),
    constraint imports_options_length check (octet_length(options::text) <= 1000),
    constraint imports_file_state_length check (octet_length(file_state) <= 1000),
    constraint imports_distribution_length check (octet_length(distribution) <= 1000),
    constraint imports_notices_length check (octet_length(notices::text) <= 1000000)
);

comment on table tinydevcrm.imports is
    'Log of the imports that succeeded. The transaction of an import writes its row.';
comment on column tinydevcrm.imports.id is
    'Number of the import.';
comment on column tinydevcrm.imports.owner is
    'Role that ran the import and owns the table.';
comment on column tinydevcrm.imports.source is
    'Where the rows came from: the name of a file or of a staging table, at most its first 250 '
    'characters.';
comment on column tinydevcrm.imports.mode is
    'What it did with an existing table: a mode of tinydevcrm.import_modes.';
comment on column tinydevcrm.imports.key is
    'Columns by which mode upsert finds a row; null in the other modes.';
comment on column tinydevcrm.imports.schema_name is
    'Schema of the table.';
comment on column tinydevcrm.imports.table_name is
    'Name of the table.';
comment on column tinydevcrm.imports.relation is
    'The table itself, even after it was renamed; null while the import is running.';
comment on column tinydevcrm.imports.dialect is
    'How the file was written; null for an import from a staging table of yours.';
comment on column tinydevcrm.imports.columns is
    'Columns in the order of the file: [{"name": …, "type": type in the table, "header": name in '
    'the file}]. While the import is running, as in tinydevcrm.import_step.';
comment on column tinydevcrm.imports.row_count is
    'Rows loaded.';
comment on column tinydevcrm.imports.byte_count is
    'Bytes read, counted by the program that sent them; null for an import by psql.';
comment on column tinydevcrm.imports.problem_count is
    'Number of lines that were repaired or rejected: rows of tinydevcrm.import_problems.';
comment on column tinydevcrm.imports.reject_count is
    'Number of lines that were rejected: their rows are not in the table.';
comment on column tinydevcrm.imports.rewrite_count is
    'Number of times that the table was rewritten, because a value did not fit the type of its '
    'column.';
comment on column tinydevcrm.imports.distribute_by is
    'Column by which the import should distribute the table, on a Citus coordinator; null for '
    'none.';
comment on column tinydevcrm.imports.options is
    'What it did about columns that only the file or only the table has, and values that do not fit: '
    'as in tinydevcrm.begin_import().';
comment on column tinydevcrm.imports.distribution is
    'How the table is distributed across the workers of Citus, as tinydevcrm.distribute_table() '
    'returns it; null for a table that is only on this server.';
comment on column tinydevcrm.imports.notices is
    'Sentences about what the import did not do although the user may expect it, and about weak '
    'guesses.';
comment on column tinydevcrm.imports.started_at is
    'When the import began.';
comment on column tinydevcrm.imports.finished_at is
    'When the table was complete, just before the commit. It is set when row_count is set.';

comment on column tinydevcrm.imports.file_state is
    'Name, size and time of a file of the inbox that has no source; null for any other import. A program '
    'that was killed before it moved the file finds it here.';

create index imports_owner_idx on tinydevcrm.imports (owner, id);

create index imports_mode_idx on tinydevcrm.imports (mode);

-- For the last import into a table.
create index imports_relation_idx on tinydevcrm.imports (relation, finished_at);

alter table tinydevcrm.imports enable row level security;

create policy imports_owner on tinydevcrm.imports
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (
          source, mode, key, schema_name, table_name, dialect, columns, distribute_by, options,
          notices
      ),
      update (
          columns, row_count, byte_count, problem_count, reject_count, rewrite_count, distribution,
          notices, file_state
      )
   on tinydevcrm.imports
   to tinydevcrm_user;

create function tinydevcrm._target(import tinydevcrm.imports)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select format('%I.%I', (import).schema_name, (import).table_name)
$$;

comment on function tinydevcrm._target(tinydevcrm.imports) is
    'Name of the table that an import creates or fills, qualified and quoted.';

create function tinydevcrm._imports_finish()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.row_count is not null then
        new.finished_at := clock_timestamp();
        new.relation := to_regclass(tinydevcrm._target(new));
    end if;

    return new;
end
$$;

comment on function tinydevcrm._imports_finish() is
    'Sets when an import was complete, and its table: columns that users may not write.';

create trigger _100_finish
    before update of row_count on tinydevcrm.imports
    for each row
    execute function tinydevcrm._imports_finish();

create table tinydevcrm.import_problems (
    id          bigint generated always as identity,
    import_id   bigint not null,
    line        bigint not null,
    reason      text not null,
    line_text   text not null,
    is_rejected boolean not null default false,

    constraint import_problems_pkey primary key (id),
    constraint import_problems_line_positive check (line > 0),
    constraint import_problems_reason_length check (octet_length(reason) <= 4000),
    constraint import_problems_line_text_length check (octet_length(line_text) <= 10000),
    constraint import_problems_import_fkey foreign key (import_id)
        references tinydevcrm.imports (id) on delete cascade
);

comment on table tinydevcrm.import_problems is
    'Lines of a file that did not fit. The import was asked to repair them or to leave them out, and '
    'did.';
comment on column tinydevcrm.import_problems.id is
    'Number of the problem, in the order of the file.';
comment on column tinydevcrm.import_problems.import_id is
    'The import.';
comment on column tinydevcrm.import_problems.line is
    'Line of the file, from 1, on which the record begins.';
comment on column tinydevcrm.import_problems.reason is
    'What was wrong with the record, and so what was done.';
comment on column tinydevcrm.import_problems.line_text is
    'The record as it was in the file. Of a record over 10000 bytes, the first 2500 characters.';
comment on column tinydevcrm.import_problems.is_rejected is
    'Whether the record was left out. Otherwise it was repaired, and is in the table.';

create index import_problems_import_idx on tinydevcrm.import_problems (import_id, id);

alter table tinydevcrm.import_problems enable row level security;

create policy import_problems_owner on tinydevcrm.import_problems
    to tinydevcrm_user
    using (
        exists (
            select
              from tinydevcrm.imports
             where imports.id = import_problems.import_id
               and pg_has_role(imports.owner, 'usage')
        )
    );

grant select,
      insert (import_id, line, reason, line_text, is_rejected)
   on tinydevcrm.import_problems
   to tinydevcrm_user;

revoke execute on function
    tinydevcrm._target(tinydevcrm.imports),
    tinydevcrm._imports_finish()
from public;

grant execute on function
    tinydevcrm._target(tinydevcrm.imports)
to tinydevcrm_user;
