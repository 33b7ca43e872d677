-- What the user drops by hand, the registry forgets: with it go the schedule, its job and the
-- subscriptions to that one view.

create function tinydevcrm._follow_drops()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.matviews
     using pg_event_trigger_dropped_objects() as dropped
     where dropped.classid = 'pg_class'::regclass
       and dropped.objsubid = 0
       and matviews.relation = dropped.objid;
exception
    -- The statement is the user's: whatever is wrong here must not stop it.
    when others then
        raise warning 'TinyDevCRM could not follow a drop: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'Look for views that are gone: select * from tinydevcrm.matviews.';
end
$$;

comment on function tinydevcrm._follow_drops() is
    'Removes the registrations of dropped materialized views. Security definer: whoever may drop a '
    'view, as the owner of its schema may, need not see the registration; it lends delete on those '
    'of what that statement dropped.';

revoke execute on function tinydevcrm._follow_drops() from public;

create event trigger tinydevcrm_follow_drops
    on sql_drop
    execute function tinydevcrm._follow_drops();

comment on event trigger tinydevcrm_follow_drops is
    'Lets TinyDevCRM''s registry follow what is dropped by hand, by cascade too.';
