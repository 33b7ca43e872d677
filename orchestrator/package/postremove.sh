#!/bin/sh
# After a removal, by dpkg (remove, later purge) or rpm (0).
set -e

[ ! -d /run/systemd/system ] || systemctl daemon-reload
case $1 in
    purge | 0)
        # The database is left: it is the user's, and tinydevcrm-database remove drops it before.
        ! id tinydevcrm >/dev/null 2>&1 || userdel tinydevcrm
        ;;
esac
