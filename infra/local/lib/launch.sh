#!/usr/bin/env bash
# launch.sh PID_FILE COMMAND…: becomes COMMAND. Its pid, start time and boot are written by itself and before that, so
# that nothing that happens in between can leave a server that nobody knows of.
set -euo pipefail
pid_file="$1"
shift
read -r stat <"/proc/$$/stat"
# The program's name, in brackets, may hold blanks: fields are counted after it. The start time is field 22.
read -r -a fields <<<"${stat##*) }"
read -r boot </proc/sys/kernel/random/boot_id
printf '%s %s %s\n' "$$" "${fields[19]}" "$boot" >"$pid_file.new"
mv "$pid_file.new" "$pid_file"
exec "$@"
