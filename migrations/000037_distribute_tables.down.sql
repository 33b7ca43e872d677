drop function tinydevcrm._analyze_distributed(regclass);
drop function tinydevcrm._distribute_import(tinydevcrm.imports);
drop function tinydevcrm._check_distribution(tinydevcrm.imports);
drop function tinydevcrm.distribute_table(regclass, text, boolean);
drop function tinydevcrm._check_distributable(regclass, text);
drop function tinydevcrm._check_neighbours(regclass);
drop function tinydevcrm._checked_table(regclass, text);
drop function tinydevcrm._refuse_other_column(regclass, name, text);
drop function tinydevcrm._refuse_distribution(text, text);
