-- Several webhooks receive by one statement.

create function tinydevcrm._receive_posts_of(
    subscription_ids   bigint[],
    batch_sizes        integer[],
    run_lengths        integer[],
    visibility_timeout interval,
    max_length         integer,
    max_bytes          integer,
    max_count          integer
)
    returns table (
        subscription_id bigint,
        delivery_id     bigint,
        matview_id      bigint,
        message_id      text,
        body            json,
        is_too_long     boolean,
        url             text,
        secrets         text[],
        early           interval,
        format          text,
        headers         jsonb
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
    -- It skips what others have locked, but to gather or park deliveries may wait for those that they
    -- carry. Their owner can lock these, and all owners receive by two such statements.
    set lock_timeout = '100ms'
as $$
declare
    v_asked  record;
    v_post   record;
    v_body   json;
    v_length integer;
    v_own    bigint;
    v_bytes  bigint := 0;
    v_count  integer := 0;
    -- The bodies of these events.
    v_events bigint[] := '{}';
    v_bodies json[] := '{}';
begin
    for v_asked in
        select asked.*
          from unnest(
                   _receive_posts_of.subscription_ids, _receive_posts_of.batch_sizes,
                   _receive_posts_of.run_lengths) as asked (id, batch_size, run_length)
    loop
        _receive_posts_of.subscription_id := v_asked.id;

        if v_bytes >= _receive_posts_of.max_bytes or v_count >= _receive_posts_of.max_count then
            _receive_posts_of.delivery_id := null;
            return next;
            continue;
        end if;

        v_own := 0;

        for v_post in
            select posts.*
              from tinydevcrm._receive_posts(
                       v_asked.id, v_asked.batch_size, _receive_posts_of.visibility_timeout,
                       v_asked.run_length, true) as posts
        loop
            v_body := coalesce(
                v_post.body, v_bodies[array_position(v_events, v_post.event_id)]);

            if v_body is null then
                select tinydevcrm._build_webhook_body(events)
                  into v_body
                  from tinydevcrm.matview_refresh_events as events
                 where events.id = v_post.event_id;

                v_events := v_events || v_post.event_id;
                v_bodies := v_bodies || v_body;
            end if;

            v_length := octet_length(v_body::text);
            v_own := v_own + v_length;
            v_count := v_count + 1;
            _receive_posts_of.delivery_id := v_post.delivery_id;
            _receive_posts_of.matview_id := v_post.matview_id;
            _receive_posts_of.message_id := v_post.message_id;
            _receive_posts_of.is_too_long := v_length > _receive_posts_of.max_length;
            _receive_posts_of.body := case
                when v_length <= _receive_posts_of.max_length
                     and v_own <= _receive_posts_of.max_bytes
                then v_body
            end;
            _receive_posts_of.url := v_post.url;
            _receive_posts_of.secrets := v_post.secrets;
            _receive_posts_of.early := v_post.early;
            _receive_posts_of.format := v_post.format;
            _receive_posts_of.headers := v_post.headers;
            return next;
        end loop;

        v_bytes := v_bytes + v_own;
    end loop;
end
$$;

comment on function tinydevcrm._receive_posts_of(
    bigint[], integer[], integer[], interval, integer, integer, integer
) is
    'Does what tinydevcrm._receive_posts() does for several webhooks, one after the other, until '
    'max_count posts or max_bytes are received. Each that is left out then has a row without a '
    'delivery. Leaves out the bodies that are longer than max_length, and those of one webhook '
    'beyond max_bytes. Builds the body '
    'of an event once for all of them. Raises 55P03 when it would have to wait for a lock.';

revoke execute on function
    tinydevcrm._receive_posts_of(
        bigint[], integer[], integer[], interval, integer, integer, integer)
from public;

grant execute on function
    tinydevcrm._receive_posts_of(
        bigint[], integer[], integer[], interval, integer, integer, integer)
to tinydevcrm_user;
