#!/bin/sh
# The image runs this after it has created the cluster. Nodes connect to each other as the role that runs a query, also
# as users' roles, and without a password. So pg_hba.conf trusts the addresses of the nodes, in a line before the image's own,
# which requires a password from everyone. The gateway's address, which this machine would use, is not trusted.
set -eu
sed -i "1i host all all $NODES trust" "$PGDATA/pg_hba.conf"
