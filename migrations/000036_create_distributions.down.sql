drop function tinydevcrm.list_distributions();
drop function tinydevcrm._check_citus();
drop function tinydevcrm._distribution_column(regclass);
drop function tinydevcrm._distribution(regclass);
