-- The sample: a table, a view of it and a schedule, to see how everything works together.

create function tinydevcrm.create_sample(
    schema_name  name default current_schema(),
    out relation regclass,
    out matview  regclass
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := tinydevcrm._find_unused_name('sample', create_sample.schema_name);
begin
    create temporary table tinydevcrm_sample on commit drop as
    select n::text as "AColumnOfNumbers"
      from generate_series(0, 9) as n;
    perform tinydevcrm.import_staging(
        'tinydevcrm_sample', v_name, schema_name => create_sample.schema_name);
    create_sample.relation := tinydevcrm._relation(create_sample.schema_name, v_name);

    create_sample.matview := tinydevcrm.create_matview(
        name => tinydevcrm._find_unused_name(v_name || '_now', create_sample.schema_name),
        query => format(
            E'select *\n  from %s\n where "AColumnOfNumbers" = '
            'floor(extract(second from now()))::integer %% 10',
            create_sample.relation),
        notify_when => 'not_empty',
        schema_name => create_sample.schema_name);
    perform tinydevcrm.schedule_matview(create_sample.matview, '5 seconds');
end
$$;

comment on function tinydevcrm.create_sample(name) is
    'Creates a table of the numbers 0 to 9 and a view of the one that is the last digit of the '
    'current second, refreshed every 5 seconds. Their names are sample and sample_now, or the next '
    'free ones. Raises 42501 after "set role".';

revoke execute on function tinydevcrm.create_sample(name) from public;
grant execute on function tinydevcrm.create_sample(name) to tinydevcrm_user;
