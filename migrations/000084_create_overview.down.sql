drop view tinydevcrm.overview;
