drop function tinydevcrm._settle_fetches();
drop function tinydevcrm._settle_requests();
drop function tinydevcrm._request_left_rounds();
