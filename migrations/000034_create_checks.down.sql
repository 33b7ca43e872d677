drop function tinydevcrm.check_installation();
