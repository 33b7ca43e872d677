drop function tinydevcrm._find_fingerprint(regclass);
drop function tinydevcrm._list_dependents(oid[], oid[]);
