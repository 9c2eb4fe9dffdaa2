# shellcheck shell=bash
# FerretDB: MongoDB's wire protocol on PostgreSQL, built from its Go module by the small program in ferretdb/.

FERRETDB_VERSION=1.24.2

ferretdb_version() { echo "$FERRETDB_VERSION"; }
ferretdb_installed() { installed "ferretdb-$FERRETDB_VERSION"; }
ferretdb_needs() {
  ferretdb_installed || have go ||
    MISSING_ELSE+=("Go is missing (1.21 or newer, which fetches the version it needs by itself): install Debian's golang-go from Debian 13 or the backports, or Go's own release, and put it in PATH")
}
ferretdb_stop_signal() { echo TERM; }
ferretdb_answers() { probe mongodb "$(served_port ferretdb)"; }

ferretdb_install() {
  local target="$STACK/software/ferretdb-$FERRETDB_VERSION" cache="$STACK/cache/go"
  mkdir -p "$target" "$cache"
  # -modcacherw: else what Go fetches cannot be deleted without changing its modes.
  (cd "$HERE/ferretdb" && GOFLAGS='-modcacherw -mod=readonly -buildvcs=false' GOMODCACHE="$cache/modules" GOCACHE="$cache/build" CGO_ENABLED=0 \
    go build -trimpath -tags ferretdb_no_sqlite -ldflags '-s -w' -o "$target/ferretdb" .)
  chmod -R a+rX "$target"
  touch "$target/.complete"
  rm -rf "$cache"
}

ferretdb_prepare() { owned_dir "$STACK/data/ferretdb"; }

ferretdb_command() {
  # A pool for each database user, and only one is used here: 60 of PostgreSQL's 200 connections.
  # Statements are prepared while collections are small, when reading everything is best; a plan kept from then would do so for ever.
  FERRETDB_POSTGRESQL_URL="postgres://ferretdb:$(secret postgres-ferretdb)@127.0.0.1:$(served_port postgres)/ferretdb?pool_max_conns=60&plan_cache_mode=force_custom_plan"
  export FERRETDB_POSTGRESQL_URL
  COMMAND=("$STACK/software/ferretdb-$FERRETDB_VERSION/ferretdb" "127.0.0.1:$(port ferretdb)")
}
