drop table tinydevcrm.csv_forms;
