drop function tinydevcrm._finish_test(bigint, integer, interval, text, text);
drop function tinydevcrm._receive_tests(integer);
drop function tinydevcrm._build_test(bigint, bigint);
drop function tinydevcrm.test_subscription(text);
drop table tinydevcrm.subscription_tests;
drop function tinydevcrm._subscription_tests_forget();
drop function tinydevcrm._subscription_tests_set_times();
drop function tinydevcrm._subscription_tests_limit();
