# shellcheck shell=bash
# Starting, finding and ending servers. A process is ours only if its pid, start time and boot are those that were
# written when it was started: nothing else is ever signalled.

# pid_of NAME: prints the pid of the server if it is running and ours.
pid_of() {
  local pid started boot stat fields now_boot
  [ -s "$STACK/run/$1.pid" ] || return 1
  read -r pid started boot <"$STACK/run/$1.pid"
  read -r now_boot </proc/sys/kernel/random/boot_id
  [ "$boot" = "$now_boot" ] || return 1
  read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
  read -r -a fields <<<"${stat##*) }"
  # A zombie has ended.
  [ "${fields[19]}" = "$started" ] && [ "${fields[0]}" != Z ] || return 1
  echo "$pid"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# answers NAME: whether it is ours, runs, and answers a real request.
answers() { pid_of "$1" >/dev/null && "$1_answers" >/dev/null 2>&1; }

# start NAME: starts it if it is not running, and returns when it answers.
start() {
  local name="$1" wanted began=$SECONDS log="$STACK/logs/$1.log" COMMAND=()
  wanted="$(port "$name")"
  if pid_of "$name" >/dev/null; then
    [ "$(served_port "$name")" = "$wanted" ] ||
      die "$name runs on port $(served_port "$name"), not $wanted: '$HERE/down $name' first"
    if "$name"_answers >/dev/null 2>&1; then
      say "$name" "is up on port $wanted"
      return
    fi
    say "$name" "runs already: waiting until it answers"
  else
    if listening "$wanted"; then
      die "port $wanted is taken by a program that is not this stack's: set NEARCAST_STACK_${name^^}_PORT"
    fi
    if [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt 50000000 ]; then mv "$log" "$log.1"; fi
    "$name"_prepare
    "$name"_command
    printf '%s\n' "$wanted" >"$STACK/run/$name.port"
    say "$name" "starts on port $wanted"
    launch "$name" "$log"
  fi
  until "$name"_answers >/dev/null 2>&1; do
    if ! pid_of "$name" >/dev/null; then
      tail -n 25 "$log" >&2 || true
      die "$name ended while it started; its last lines are above, all of them in $log"
    fi
    if [ $((SECONDS - began)) -ge "$START_TIMEOUT" ]; then
      tail -n 25 "$log" >&2 || true
      die "$name has not answered in $START_TIMEOUT s; see $log"
    fi
    sleep 0.3
  done
  if declare -F "$name"_finish >/dev/null; then "$name"_finish; fi
  say "$name" "answers after $((SECONDS - began)) s"
}

# launch NAME LOG: starts COMMAND as the servers' user in a session of its own.
launch() {
  local pid_file="$STACK/run/$1.pid" user=() tries=0
  rm -f "$pid_file"
  if is_root; then user=(setpriv --reuid="$SERVER_USER" --regid="$SERVER_USER" --clear-groups --); fi
  # Background jobs of a script ignore SIGINT, and some servers stop cleanly by nothing else: signals are set anew.
  (cd "$STACK" && umask 077 && HOME="$STACK/data" exec setsid "$HERE/lib/launch.sh" "$pid_file" \
    "${user[@]}" env --default-signal "${COMMAND[@]}") </dev/null >>"$2" 2>&1 9>&- &
  until [ -s "$pid_file" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || die "$1 could not be started; see $2"
    sleep 0.05
  done
}

# stop NAME: asks it to end, and makes it after $STOP_TIMEOUT seconds.
stop() {
  local name="$1" pid began=$SECONDS
  if ! pid="$(pid_of "$name")"; then
    say "$name" "is down"
    rm -f "$STACK/run/$name.pid"
    return
  fi
  kill -s "$("$name"_stop_signal)" "$pid" 2>/dev/null || true
  while pid_of "$name" >/dev/null; do
    if [ $((SECONDS - began)) -ge "$STOP_TIMEOUT" ]; then
      warn "$name" "has not ended in $STOP_TIMEOUT s: killed"
      # It leads its session, so what it started goes with it.
      kill -KILL -- "-$pid" 2>/dev/null || true
      sleep 0.2
    else
      sleep 0.1
    fi
  done
  rm -f "$STACK/run/$name.pid"
  say "$name" "ended after $((SECONDS - began)) s"
}
