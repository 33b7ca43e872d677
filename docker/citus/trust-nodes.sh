#!/bin/sh
# Run by the image when it has made a cluster. Nodes come to each other as whatever role a query runs as, users'
# roles too, and have no password to give. So they trust the addresses that are theirs, ahead of the image's line that
# asks everybody for a password. The gateway's address, by which this machine would come, is not among them.
set -eu
sed -i "1i host all all $NODES trust" "$PGDATA/pg_hba.conf"
