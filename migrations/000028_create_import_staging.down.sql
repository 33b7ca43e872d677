drop function tinydevcrm.import_staging(
    regclass, text, text, text[], jsonb, text[], name, text, jsonb, tinydevcrm.csv_dialect);
drop function tinydevcrm._check_staging(regclass);
drop function tinydevcrm._load_staging(tinydevcrm.import_step, text, text[], integer[]);
drop function tinydevcrm._refuse_staging_row();
