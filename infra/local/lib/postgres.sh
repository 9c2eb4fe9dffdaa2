# shellcheck shell=bash
# PostgreSQL, of whatever version the system has from 14 on: one instance with the database `nearcast`, and beside it
# the one that FerretDB keeps its documents in. Passwords on TCP, no socket file.

# postgres_bin PROGRAM: the path of one of PostgreSQL's programs (NEARCAST_STACK_PG_BIN, else the newest installed).
postgres_bin() {
  local dir
  while read -r dir; do
    if [ -n "$dir" ] && [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
      echo "$dir/$1"
      return
    fi
  done < <(
    echo "${NEARCAST_STACK_PG_BIN:-}"
    printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse
    if command -v initdb >/dev/null; then dirname "$(readlink -f "$(command -v initdb)")"; fi
  )
  return 1
}

postgres_version() { "$(postgres_bin postgres)" --version 2>/dev/null | sed 's/^postgres (PostgreSQL) \([^ ]*\).*/\1/'; }
postgres_needs() { postgres_bin initdb >/dev/null || MISSING_PACKAGES+=(postgresql); }
postgres_stop_signal() { echo INT; }

# postgres_sql USER DATABASE: runs the SQL on standard input.
postgres_sql() {
  PGPASSWORD="$(secret "postgres-$1")" PGCONNECT_TIMEOUT=5 "$(postgres_bin psql)" --no-psqlrc --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=1 --host=127.0.0.1 --port="$(served_port postgres)" --username="$1" --dbname="$2"
}

postgres_answers() { postgres_sql postgres postgres <<<'SELECT 1'; }

# A killed server may stay in the process table until it is reaped, and PostgreSQL then takes it for a running one. Its
# pid file goes once no process that lives works in the directory of the data.
postgres_unlock() {
  local cluster="$1" tries=0 dir state
  [ -e "$cluster/postmaster.pid" ] || return 0
  while :; do
    state=
    for dir in /proc/[0-9]*; do
      if [ "$(readlink "$dir/cwd" 2>/dev/null)" = "$cluster" ]; then state=used; fi
    done
    [ -n "$state" ] || break
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || die "a PostgreSQL that this stack did not start works in $cluster"
    sleep 0.1
  done
  rm -f "$cluster/postmaster.pid"
}

postgres_prepare() {
  local home="$STACK/data/postgres" port
  owned_dir "$home"
  if [ ! -d "$home/cluster" ]; then
    say postgres "makes its data directory"
    rm -rf "$home/cluster.new"
    as_server "$(postgres_bin initdb)" --pgdata="$home/cluster.new" --username=postgres --pwfile="$STACK/secrets/postgres-postgres" \
      --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >>"$STACK/logs/postgres.log" 2>&1
    mv "$home/cluster.new" "$home/cluster"
  fi
  postgres_unlock "$home/cluster"
  port="$(port postgres)"
  cat >"$home/cluster/postgresql.auto.conf" <<END
# Written by infra/local/up at every start.
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
shared_buffers = '256MB'
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
END
  if is_root; then chown "$SERVER_USER:$SERVER_USER" "$home/cluster/postgresql.auto.conf"; fi
}

postgres_command() { COMMAND=("$(postgres_bin postgres)" -D "$STACK/data/postgres/cluster"); }

postgres_finish() {
  postgres_databases
  # FerretDB asks by key and makes no index for it.
  local mark
  mark="$STACK/data/postgres/documents-indexed-$(cksum <"$HERE/ferretdb/index_documents.sql" | cut -d' ' -f1)"
  if [ ! -e "$mark" ]; then
    postgres_sql postgres ferretdb <"$HERE/ferretdb/index_documents.sql" >/dev/null
    touch "$mark"
  fi
}

# Roles and databases, once; what an interrupted run has made already is left as it is.
postgres_databases() {
  local role mark="$STACK/data/postgres/databases-made"
  [ ! -e "$mark" ] || return 0
  for role in nearcast ferretdb; do
    # Nothing is created where the SELECT finds no row; names and passwords are of letters and digits only.
    postgres_sql postgres postgres <<END
SELECT 'CREATE ROLE $role LOGIN CREATEDB' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$role') \gexec
ALTER ROLE $role PASSWORD '$(secret "postgres-$role")';
SELECT 'CREATE DATABASE $role OWNER $role' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$role') \gexec
END
    postgres_sql "$role" "$role" <<<'SELECT 1' >/dev/null
  done
  touch "$mark"
}
