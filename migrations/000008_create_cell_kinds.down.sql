drop function tinydevcrm._load_cell_kinds();
