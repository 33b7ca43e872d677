drop function tinydevcrm.list_distributions();
drop function tinydevcrm._analyze_distributed(regclass);
drop function tinydevcrm.distribute_table(regclass, text, boolean);
drop function tinydevcrm._check_distributable(regclass, text);
drop function tinydevcrm._check_neighbours(regclass);
drop function tinydevcrm._check_table(regclass, text);
drop function tinydevcrm._refuse_other_column(regclass, name, text);
drop function tinydevcrm._refuse_distribution(text, text);
