# shellcheck shell=bash
# What every command here shares: where the stack lies, its ports and secrets, and how it speaks.
# It must never write outside $STACK, and never print a secret but in `env`.

# In the order in which they start: FerretDB needs PostgreSQL.
SERVERS=(postgres ferretdb redis kafka neo4j milvus)

if [ -n "${NEARCAST_STACK_DIR:-}" ]; then
  STACK="$NEARCAST_STACK_DIR"
elif [ "$(id -u)" -eq 0 ]; then
  # Root's home is closed to the user that the servers run as.
  STACK=/var/lib/nearcast-stack
else
  STACK="$HOME/.nearcast-stack"
fi
case "$STACK" in
  /*) ;;
  *) STACK="$PWD/$STACK" ;;
esac

# The user that servers run as when root calls; any other caller's servers are the caller's.
SERVER_USER="${NEARCAST_STACK_USER:-nearcast-stack}"
# Seconds until a server must have answered, and until one that was asked to stop is made to.
START_TIMEOUT="${NEARCAST_STACK_START_TIMEOUT:-180}"
STOP_TIMEOUT="${NEARCAST_STACK_STOP_TIMEOUT:-30}"

say() { printf '%-9s %s\n' "$1" "$2"; }
warn() { printf '%-9s %s\n' "$1" "$2" >&2; }
die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# as_server COMMAND…: runs it as the user that servers run as, in a directory that user can enter. By way of `env`:
# setpriv itself could still start a program that the user cannot reach.
as_server() {
  if is_root; then
    (cd "$STACK" && HOME="$STACK/data" exec setpriv --reuid="$SERVER_USER" --regid="$SERVER_USER" --clear-groups -- env "$@")
  else
    (cd "$STACK" && exec "$@")
  fi
}

# owned_dir DIR…: makes directories that only the servers' user can read.
owned_dir() {
  local dir
  for dir in "$@"; do
    mkdir -p "$dir"
    chmod 700 "$dir"
    if is_root; then chown "$SERVER_USER:$SERVER_USER" "$dir"; fi
  done
}

# Lays the stack's directories, and its user where root calls.
lay_stack() {
  if is_root && ! id "$SERVER_USER" >/dev/null 2>&1; then
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$SERVER_USER"
  fi
  mkdir -p "$STACK"/{software,run,cache,install-logs} || die "cannot write $STACK: set NEARCAST_STACK_DIR to a directory that can be written"
  if is_root && ! setpriv --reuid="$SERVER_USER" --regid="$SERVER_USER" --clear-groups -- test -x "$STACK"; then
    die "the user $SERVER_USER, which servers run as, cannot enter $STACK: set NEARCAST_STACK_DIR to a directory that others may enter"
  fi
  owned_dir "$STACK"/{data,conf,logs,secrets}
}

# One `up` or `down` at a time. Descriptor 9 holds the lock; servers are started without it.
lock_stack() {
  exec 9>"$STACK/lock"
  if ! flock -n 9; then
    say stack "another up or down is at work: waiting for it"
    flock 9
  fi
}

default_port() {
  case "$1" in
    kafka) echo 19092 ;;
    kafka_controller) echo 19093 ;;
    kafka_secure) echo 19094 ;;
    postgres) echo 15432 ;;
    ferretdb) echo 17017 ;;
    neo4j) echo 17687 ;;
    redis) echo 16379 ;;
    milvus) echo 19531 ;;
  esac
}

# port NAME: NEARCAST_STACK_NAME_PORT, else the one it last started with, else the default.
port() {
  local variable="NEARCAST_STACK_${1^^}_PORT"
  if [ -n "${!variable:-}" ]; then
    echo "${!variable}"
  elif [ -s "$STACK/run/$1.port" ]; then
    cat "$STACK/run/$1.port"
  else
    default_port "$1"
  fi
}

# served_port NAME: where a running server listens, whatever the environment asks for.
served_port() {
  if [ -s "$STACK/run/$1.port" ]; then cat "$STACK/run/$1.port"; else port "$1"; fi
}

# secret NAME: the password of that name, made at its first use.
secret() {
  local file="$STACK/secrets/$1"
  if [ ! -s "$file" ]; then
    (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$file.new")
    if is_root; then chown "$SERVER_USER:$SERVER_USER" "$file.new"; fi
    mv "$file.new" "$file"
  fi
  cat "$file"
}

# chosen NAME…: sets CHOSEN to the servers named, in the order in which they start; without names to all.
chosen() {
  local name known
  CHOSEN=()
  for name in "$@"; do
    case " ${SERVERS[*]} " in
      *" $name "*) ;;
      *) die "no server is called '$name': the servers are ${SERVERS[*]}" ;;
    esac
  done
  for known in "${SERVERS[@]}"; do
    if [ $# -eq 0 ] || [[ " $* " == *" $known "* ]]; then CHOSEN+=("$known"); fi
  done
}

# probe WHAT PORT [ARGUMENT…]: one real request over the server's own protocol (see probe.py).
probe() { timeout 20 "${PROBE_PYTHON:-python3}" "$HERE/lib/probe.py" "$@"; }
