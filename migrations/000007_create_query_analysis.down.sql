drop function tinydevcrm._find_read_reason(regclass, oid[]);
drop function tinydevcrm._find_call_reason(regclass, oid[]);
drop function tinydevcrm._list_reads(regclass);
drop table tinydevcrm.stable_functions;
