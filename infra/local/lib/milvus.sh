# shellcheck shell=bash
# milvus-lite: Milvus' gRPC protocol in one Python process, in a virtual environment of its own.

MILVUS_VERSION=3.2.2

milvus_version() { echo "lite-$MILVUS_VERSION"; }
milvus_installed() { installed "milvus-lite-$MILVUS_VERSION"; }
milvus_stop_signal() { echo INT; }
milvus_answers() { PROBE_PYTHON="$STACK/software/milvus-lite-$MILVUS_VERSION/bin/python" probe milvus "$(served_port milvus)"; }
milvus_prepare() { owned_dir "$STACK/data/milvus"; }

# milvus_python: a Python from 3.11 on, with venv, that the servers' user may run (one under /root is not).
milvus_python() {
  local candidate path
  for candidate in "${NEARCAST_STACK_PYTHON:-}" python3 /usr/bin/python3; do
    [ -n "$candidate" ] || continue
    path="$("$candidate" -c 'import ensurepip, sys, venv; assert sys.version_info >= (3, 11); print(sys.executable)' 2>/dev/null)" || continue
    if as_server "$path" -c '' 2>/dev/null; then
      echo "$path"
      return
    fi
  done
  return 1
}

milvus_needs() {
  milvus_installed || milvus_python >/dev/null || MISSING_PACKAGES+=(python3 python3-venv)
}

milvus_install() {
  local target="$STACK/software/milvus-lite-$MILVUS_VERSION" python
  python="$(milvus_python)" || die "no Python from 3.11 on that the user $SERVER_USER may run: set NEARCAST_STACK_PYTHON"
  as_server "$target/bin/python" -m pip --version || "$python" -m venv --clear "$target"
  "$target/bin/pip" install --disable-pip-version-check --no-cache-dir --requirement "$HERE/milvus/requirements.txt"
  chmod -R a+rX "$target"
  touch "$target/.complete"
}

milvus_command() {
  export PYTHONUNBUFFERED=1
  # Its collections are not made for two writers at a time, so that requests are served one after the other.
  COMMAND=("$STACK/software/milvus-lite-$MILVUS_VERSION/bin/milvus-lite" server --data-dir "$STACK/data/milvus"
    --host 127.0.0.1 --port "$(port milvus)" --max-workers 1)
}
