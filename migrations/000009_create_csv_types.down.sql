drop table tinydevcrm.csv_types;
