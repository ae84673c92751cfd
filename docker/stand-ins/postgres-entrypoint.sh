# As the official image: makes a database with the password from POSTGRES_PASSWORD, and runs the server as its own user.
set -e
data=/var/lib/postgresql/data
as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups --"
cd /
if [ ! -e "$data" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    mkdir -p "$data" && chown postgres:postgres "$data" /tmp/password
    $as_postgres initdb -D "$data" -U postgres -A scram-sha-256 --pwfile=/tmp/password -E UTF8 --locale=C --no-sync
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
fi
exec $as_postgres "$@" -D "$data" -c "listen_addresses=*"
