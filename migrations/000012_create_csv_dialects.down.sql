drop type tinydevcrm.csv_dialect;
