# shellcheck shell=bash
# Redis as a cache: in memory only, bounded, the least recently used goes first.

redis_version() { redis-server --version 2>/dev/null | sed -n 's/.* v=\([^ ]*\).*/\1/p'; }
redis_needs() { have redis-server || MISSING_PACKAGES+=(redis-server); }
redis_stop_signal() { echo TERM; }
redis_answers() { probe redis "$(served_port redis)"; }
redis_prepare() { owned_dir "$STACK/data/redis"; }

redis_command() {
  COMMAND=(redis-server --bind 127.0.0.1 --port "$(port redis)" --dir "$STACK/data/redis" --daemonize no
    --save '' --appendonly no --maxmemory 512mb --maxmemory-policy allkeys-lru)
}
