begin;
select plan(87);

select is((tinydevcrm.describe_schedule(schedule)).words, words, schedule || ' in words')
  from (
    values
        ('5 seconds', 'every 5 seconds'),
        ('1 second', 'every second'),
        ('* * * * *', 'every minute'),
        ('10 minutes', 'every 10 minutes'),
        ('*/7 * * * *', 'at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour'),
        ('15 * * * *', 'at minute 15 of every hour'),
        ('0,30 * * * *', 'every 30 minutes'),
        ('1 hour', 'every hour'),
        ('3 hours', 'every 3 hours'),
        ('30 */2 * * *', 'every 2 hours at minute 30'),
        ('*/5 9-17 * * *', 'every 5 minutes of hours 9 to 17'),
        ('@daily', 'every day at 00:00'),
        ('0 7 * * *', 'every day at 07:00'),
        ('0 7 * * 1', 'every Monday at 07:00'),
        ('0 7 * * 0', 'every Sunday at 07:00'),
        ('0 7 * * 7', 'every Sunday at 07:00'),
        ('0 7 * * mon-fri', 'Monday to Friday at 07:00'),
        ('0 0 * * 0,6', 'Saturday and Sunday at 00:00'),
        ('0 9-17 * * 1-5', 'Monday to Friday at minute 0 of hours 9 to 17'),
        ('0,30 7,19 * * *', 'every day at 07:00, 07:30, 19:00 and 19:30'),
        ('30 4 1 * *', 'on day 1 of every month at 04:30'),
        ('30 4 1,15 * *', 'on day 1 and 15 of every month at 04:30'),
        ('0 0 1 1 *', 'on day 1 of January at 00:00'),
        ('0 0 * jan,jul *', 'every day of January and July at 00:00'),
        ('0 7 * 3 7', 'every Sunday in March at 07:00'),
        ('30 4 13 * 5', 'on day 13 of every month and on Friday at 04:30'),
        ('0 0 */15 * 1', 'on day 1, 16 and 31 of every month, if it is Monday at 00:00'),
        ('0 7 $ * *', 'on the last day of every month at 07:00'),
        ('0 7 15,$ 6 *', 'on day 15 and the last day of June at 07:00')
  ) as schedules (schedule, words);

select is(
    (tinydevcrm.describe_schedule(' 60   seconds ')).schedule, '* * * * *',
    'a schedule is returned in its normal spelling');
select is(
    (tinydevcrm.describe_schedule('5 seconds')).next_due_at,
    array(
        select to_timestamp(5 * (floor(extract(epoch from now()) / 5) + number))
          from generate_series(1, 3) as number
         order by number
    ),
    'the next three times are returned');
select throws_ok(
    $$ select tinydevcrm.describe_schedule('0 0 31 2 *') $$, 'TD003',
    '''0 0 31 2 *'' is never due: no such day comes', 'a date that never comes is refused');
select is(
    (tinydevcrm.describe_schedule('0 7 * * *')).time_zone, 'GMT', 'the time zone of the words is returned');

select is(
           (select concat_ws(' ', parsed.schedule, parsed.time_zone) from tinydevcrm._parse_schedule(typed) as parsed),
           normal, typed || ' is ' || normal)
  from (
    values
        ('hourly', '0 * * * *'),
        ('daily', '0 0 * * *'),
        ('weekly', '0 0 * * 0'),
        ('monthly', '0 0 1 * *'),
        ('yearly', '0 0 1 1 *'),
        ('@daily', '0 0 * * *'),
        ('Daily at 7:00', '0 7 * * *'),
        ('daily  at  07:30', '30 7 * * *'),
        ('daily at 7am', '0 7 * * *'),
        ('daily at 12:15 am', '15 0 * * *'),
        ('daily at 12pm', '0 12 * * *'),
        ('every day at noon', '0 12 * * *'),
        ('daily at midnight', '0 0 * * *'),
        ('every minute', '* * * * *'),
        ('every 10 minutes', '*/10 * * * *'),
        ('every 2 hours', '0 */2 * * *'),
        ('every 5 seconds', '5 seconds'),
        ('weekdays at 9:00', '0 9 * * 1-5'),
        ('weekends at 9:00', '0 9 * * 0,6'),
        ('monday at 8:00', '0 8 * * 1'),
        ('every monday', '0 0 * * 1'),
        ('mondays and thursdays at 18:30', '30 18 * * 1,4'),
        ('Fri, Mon, and Wed at 6pm', '0 18 * * 1,3,5'),
        ('sundays and sunday at 8:00', '0 8 * * 0'),
        ('first day of the month at 6:00', '0 6 1 * *'),
        ('day 15 of the month at 6:00', '0 6 15 * *'),
        ('the last day of every month at 7:00', '0 7 $ * *'),
        ('0 7 15,$ * *', '0 7 15,$ * *'),
        ('daily at 7:00 Europe/Berlin', '0 7 * * * Europe/Berlin'),
        ('daily at 7:00 utc', '0 7 * * * UTC'),
        ('0 9 * * 1-5 america/new_york', '0 9 * * 1-5 America/New_York'),
        ('every 10 minutes Asia/Kathmandu', '*/10 * * * * Asia/Kathmandu'),
        ('5 seconds Europe/Berlin', '5 seconds')
  ) as words (typed, normal);

create function pg_temp.refusal(schedule text)
    returns text
    language plpgsql
as $$
declare
    v_hint text;
begin
    perform tinydevcrm._parse_schedule(schedule);
    return null;
exception
    when sqlstate 'TD003' then
        get stacked diagnostics v_hint = pg_exception_hint;
        return sqlerrm || ': ' || v_hint;
end
$$;

select matches(pg_temp.refusal(typed), wanted, typed || ' is refused: ' || wanted)
  from (
    values
        ('daily at 25:00', 'is not a schedule: Write .*"daily at 7:00", "weekdays at 9:00"'),
        ('daily at 7', 'is not a schedule'),
        ('daily at 13pm', 'is not a schedule'),
        ('8:00', 'is not a schedule: Write .*"daily at 7:00"'),
        ('8:00 Europe/Berlin', 'is not a schedule: Write .*"daily at 7:00"'),
        ('hourly at 7:00', 'is not a schedule'),
        ('monday and someday at 8:00', 'is not a schedule'),
        ('day 32 of the month', 'is not a schedule'),
        ('every 7 minutes', 'The nearest that can: 6 minutes and 10 minutes'),
        ('daily at 7:00 Europe/Berlim', 'not a time zone: Did you mean Europe/Berlin'),
        ('daily at 7:00 Mars/Olympus', 'not a time zone: A time zone is a name such as Europe/Berlin'),
        ('daily at 7:00 Berlin', 'is not a schedule'),
        ('0 0 $ * * *', 'is not a schedule'),
        ('$ 0 * * *', 'is not a schedule'),
        ('0 0 0 * *', 'is not a schedule'),
        ('0 0 31 4,6,9,11 *', 'is never due')
  ) as refused (typed, wanted);

select throws_ok($$ select tinydevcrm.describe_schedule('sometimes') $$, 'TD003', null, 'nonsense is refused');
select throws_ok($$ select tinydevcrm.describe_schedule('61 * * * *') $$, 'TD003', null, 'a minute over 59 is refused');
select throws_ok($$ select tinydevcrm.describe_schedule('0 7 * * fri-mon') $$, 'TD003', null, 'a range that runs backwards is refused');
select throws_ok($$ select tinydevcrm._parse_schedule('5-3 * * * *') $$, 'TD003', null, '_parse_schedule() refuses it too');
select throws_ok($$ select tinydevcrm.describe_schedule('7 minutes') $$, 'TD003', null, 'an interval that does not divide an hour is refused');

select * from finish();
rollback;
