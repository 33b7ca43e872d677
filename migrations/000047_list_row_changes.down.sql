drop function tinydevcrm._cut_rows(jsonb, integer);
drop function tinydevcrm._carry_rows(text[], integer);
drop function tinydevcrm._read_added_rows(
    regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]);
drop function tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer);
drop function tinydevcrm._print_key(text, text[]);
