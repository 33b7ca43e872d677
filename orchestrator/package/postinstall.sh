#!/bin/sh
# After an installation or upgrade, by dpkg (configure OLD-VERSION) or rpm (1, or 2 for an upgrade).
set -e

case $1 in
    configure) was=$2 ;;
    1) was='' ;;
    2) was=before ;;
    *) exit 0 ;;
esac

# A user that exists, rather than one that systemd makes at each start, because Postgres has to know its name.
id tinydevcrm >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tinydevcrm

[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ -z "$was" ]; then
    echo "tinydevcrm: to prepare the Postgres of this machine and start the service: tinydevcrm-database create"
    echo "tinydevcrm: for another Postgres: edit /etc/default/tinydevcrm, then systemctl enable --now tinydevcrm"
    exit 0
fi
# A newer program may have more migrations. One that fails changes nothing, and the program says what is missing.
if ls /etc/postgresql/*/*/conf.d/tinydevcrm.conf >/dev/null 2>&1; then
    tinydevcrm-database migrate || echo "tinydevcrm: to migrate later: tinydevcrm-database migrate" >&2
fi
if [ -d /run/systemd/system ]; then
    systemctl try-restart tinydevcrm
    systemctl is-active --quiet tinydevcrm || echo "tinydevcrm: to start the service: systemctl enable --now tinydevcrm"
fi
