drop function tinydevcrm._check_citus();
drop function tinydevcrm._find_distribution_column(regclass);
drop function tinydevcrm._find_distribution(regclass);
