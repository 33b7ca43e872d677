-- The triggers are ours: the tables stay.
do $$
declare
    v_trigger record;
begin
    for v_trigger in
        select pg_trigger.tgname,
               pg_trigger.tgrelid::regclass as relation
          from pg_catalog.pg_trigger
         where pg_trigger.tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.relation);
    end loop;
end
$$;

drop function tinydevcrm._drop_change_triggers(regclass);
drop function tinydevcrm._create_change_trigger(regclass);
drop function tinydevcrm._list_with_children(regclass);
drop function tinydevcrm._is_table_tracked(oid);
drop function tinydevcrm._record_change(regclass);
drop function tinydevcrm._table_changes_record();
drop function tinydevcrm._may_change_silently();
drop function tinydevcrm._notify_change();
drop table tinydevcrm.change_watches;
drop function tinydevcrm._change_watches_look();
drop table tinydevcrm.table_changes;
