drop function tinydevcrm._receive_posts_of(
    bigint[], integer[], integer[], interval, integer, integer, integer);
