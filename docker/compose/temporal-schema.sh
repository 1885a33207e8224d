#!/bin/sh
# Creates the databases of Temporal and brings their schemas up to this version. It
# may run again: that is how an upgrade changes the schema.
set -eu
for pair in temporal:temporal temporal_visibility:visibility; do
  db=${pair%%:*} schema=${pair##*:}
  sql() { temporal-sql-tool --plugin postgres12 --ep postgresql --port 5432 --user temporal --db "$db" "$@"; }
  sql create || echo "database $db is there"
  sql setup-schema -v 0.0 || echo "schema of $db is there"
  sql update-schema -d "/etc/temporal/schema/postgresql/v12/$schema/versioned"
done
