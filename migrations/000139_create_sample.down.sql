drop function tinydevcrm.create_sample(name);
