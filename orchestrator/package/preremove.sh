#!/bin/sh
# Before a removal, by dpkg (remove) or rpm (0); not before an upgrade.
set -e

case $1 in
    remove | 0) [ ! -d /run/systemd/system ] || systemctl disable --quiet --now tinydevcrm ;;
esac
