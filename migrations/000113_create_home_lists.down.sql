drop function tinydevcrm._search(text, integer);
drop function tinydevcrm._list_troubled(integer);
