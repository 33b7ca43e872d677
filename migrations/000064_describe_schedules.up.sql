-- A schedule in words, with which users check what they have written.

create function tinydevcrm._describe_cron(
    minutes   integer[],
    hours     integer[],
    days      integer[],
    months    integer[],
    weekdays  integer[],
    is_either boolean
)
    returns text
    language plpython3u
    immutable
    set search_path = pg_catalog, pg_temp
as $$
global minutes, hours, days, months, weekdays
# A loop in Python cannot be cancelled. A field has at most 60 values; some may be given twice.
if not all(values and len(values) <= 1600 for values in (minutes, hours, days, months, weekdays)):
    plpy.error("a field of a cron expression has 1 to 1600 values", sqlstate="TD003")

minutes, hours, days, months, weekdays = (
    sorted(set(values)) for values in (minutes, hours, days, months, weekdays)
)
MONTHS = (
    "January February March April May June July August September October November December"
).split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

def join(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]

def spoken(numbers, name=str):
    """1, 2, 3, 5 as "1 to 3 and 5"."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    items = []
    for run in runs:
        if len(run) > 2:
            items.append(f"{name(run[0])} to {name(run[-1])}")
        else:
            items.extend(name(number) for number in run)
    return join(items)

def step_of(numbers, size):
    """2 for 0, 2, 4 and so on up to size; None when the steps do not divide size evenly."""
    step = size // len(numbers)
    return step if numbers == list(range(0, size, step)) else None

def time_of_day():
    if len(minutes) * len(hours) <= 4:
        return "at " + join([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    step = step_of(hours, 24)
    if len(minutes) == 1 and step and (step > 1 or minutes == [0]):
        words = "every hour" if step == 1 else f"every {step} hours"
        return words if minutes == [0] else f"{words} at minute {minutes[0]}"
    step = step_of(minutes, 60)
    if len(minutes) == 60:
        words = "every minute"
    elif step and len(minutes) > 1:
        words = f"every {step} minutes"
    else:
        words = f"at minute{'s' if len(minutes) > 1 else ''} {spoken(minutes)} of every hour"
    if len(hours) == 24:
        return words
    return words.replace(" of every hour", "") + f" of hours {spoken(hours)}"

def date():
    in_months = spoken(months, lambda month: MONTHS[month - 1]) if len(months) < 12 else None
    in_month = in_week = None
    numbers = [day for day in days if day > 0]
    if len(numbers) < 31:
        named = [f"day {spoken(numbers)}"] if numbers else []
        # The day -1 is the last one.
        if -1 in days:
            named.append("the last day")
        in_month = f"on {join(named)} of {in_months or 'every month'}"
    # Monday first, as people say it. 0 and 7 are both Sunday.
    week = sorted({(weekday - 1) % 7 for weekday in weekdays})
    if len(week) < 7:
        in_week = spoken(week, lambda weekday: WEEKDAYS[weekday])
    if in_month and in_week:
        return f"{in_month} and on {in_week}" if is_either else f"{in_month}, if it is {in_week}"
    if in_week:
        every = "every " if len(week) == 1 else ""
        return f"{every}{in_week}" + (f" in {in_months}" if in_months else "")
    return in_month or (f"every day of {in_months}" if in_months else None)

words, when = time_of_day(), date()
if when is None:
    return words if "every" in words else f"every day {words}"
return f"{when} {words}" if words.startswith("at") else f"{words}, {when}"
$$;

comment on function tinydevcrm._describe_cron(
    integer[], integer[], integer[], integer[], integer[], boolean
) is
    'The values of the five fields of a cron expression in words; is_either as in '
    'tinydevcrm._cron_fields(). Raises TD003 for a field with no values or with over 1600.';

create function tinydevcrm.describe_schedule(
    inout schedule  text,
    out words       text,
    out time_zone   text,
    out next_due_at timestamptz[]
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parsed record := tinydevcrm._parse_schedule(describe_schedule.schedule);
    v_fields tinydevcrm._cron;
    v_next   timestamptz := now();
begin
    describe_schedule.schedule := v_parsed.schedule;
    if v_parsed.schedule = 'on change' then
        describe_schedule.words := 'when a table that it reads has changed';
        describe_schedule.next_due_at := '{}';
        return;
    end if;

    describe_schedule.time_zone := coalesce(v_parsed.time_zone, tinydevcrm._cron_timezone());
    if v_parsed.seconds is not null then
        describe_schedule.words := 'every ' || regexp_replace(v_parsed.schedule, '^1 (.*)', '\1');
    else
        v_fields := tinydevcrm._cron_fields(v_parsed.schedule);
        describe_schedule.words := tinydevcrm._describe_cron(
            v_fields.minutes, v_fields.hours, v_fields.days, v_fields.months, v_fields.weekdays,
            v_fields.is_either);
    end if;

    for v_count in 1 .. 3 loop
        v_next := tinydevcrm._compute_next_due(
            v_parsed.seconds, v_parsed.schedule, v_parsed.time_zone, v_next);
        describe_schedule.next_due_at := describe_schedule.next_due_at || v_next;
    end loop;
end
$$;

comment on function tinydevcrm.describe_schedule(text) is
    'A schedule in its normal form and in words, the time zone of the words, and the next three '
    'times at which it is due; none for "on change". Raises TD003 when it is not a schedule.';

revoke execute on function
    tinydevcrm._describe_cron(
        integer[], integer[], integer[], integer[], integer[], boolean),
    tinydevcrm.describe_schedule(text)
from public;

grant execute on function
    tinydevcrm._describe_cron(
        integer[], integer[], integer[], integer[], integer[], boolean),
    tinydevcrm.describe_schedule(text)
to tinydevcrm_user;
