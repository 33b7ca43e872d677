drop function tinydevcrm._request_refresh(tinydevcrm.matviews);
drop table tinydevcrm.refresh_requests;
