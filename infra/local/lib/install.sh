# shellcheck shell=bash
# Installing: what comes from Debian, and what the servers' own files share. What is complete has a mark, and what was
# interrupted is taken up again.

# Debian packages that `needs` found missing, and what is to be had elsewhere.
MISSING_PACKAGES=()
MISSING_ELSE=()

have() { command -v "$1" >/dev/null 2>&1; }

# installed NAME-VERSION: whether that directory of software is complete.
installed() { [ -f "$STACK/software/$1/.complete" ]; }

# need_java: a Java that Kafka 4 and Neo4j 5 both run on.
need_java() {
  have java || MISSING_PACKAGES+=(default-jre-headless)
}

need_maven() {
  have mvn || MISSING_PACKAGES+=(maven)
}

# Fetches what Debian has, if root calls; says what to do otherwise.
install_missing() {
  local item
  for item in "${MISSING_ELSE[@]}"; do warn stack "$item"; done
  if [ ${#MISSING_PACKAGES[@]} -gt 0 ]; then
    if is_root && have apt-get; then
      say stack "installs Debian packages: ${MISSING_PACKAGES[*]}"
      if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${MISSING_PACKAGES[@]}"; } >"$STACK/install-logs/apt.log" 2>&1 </dev/null; then
        tail -n 15 "$STACK/install-logs/apt.log" >&2
        die "apt-get failed; all it said is in $STACK/install-logs/apt.log"
      fi
    else
      die "these are missing: run 'apt-get install ${MISSING_PACKAGES[*]}' as root, or install what they hold in your system's way"
    fi
  fi
  [ ${#MISSING_ELSE[@]} -eq 0 ] || die "cannot go on without what is named above"
}

java_new_enough() {
  local version
  version="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')"
  [ "${version:-0}" -ge 17 ] || die "Java 17 or newer is needed, and 'java' is ${version:-of an unknown version}: install openjdk-17-jre-headless or newer, and put it first in PATH"
}

# maven_jars NAME VERSION: copies the jars of maven/NAME/pom.xml and all they need to software/NAME-VERSION/lib.
maven_jars() {
  local target="$STACK/software/$1-$2" cache="$STACK/cache/maven-$1"
  mkdir -p "$target"
  mvn --batch-mode --no-transfer-progress -f "$HERE/maven/$1/pom.xml" -Dmaven.repo.local="$cache" \
    -DoutputDirectory="$target/lib" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
  chmod -R a+rX "$target"
  touch "$target/.complete"
  rm -rf "$cache"
}

# install_chosen: installs what is missing of CHOSEN, side by side, and says what is going on.
install_chosen() {
  local name todo=() pids=() began=$SECONDS failed=0 i still
  for name in "${CHOSEN[@]}"; do "$name"_needs; done
  install_missing
  for name in "${CHOSEN[@]}"; do
    if declare -F "$name"_installed >/dev/null && ! "$name"_installed; then todo+=("$name"); fi
  done
  [ ${#todo[@]} -gt 0 ] || return 0
  for name in "${todo[@]}"; do
    say "$name" "installs $("$name"_version)"
    (set -e && umask 022 && "$name"_install) >"$STACK/install-logs/$name.log" 2>&1 </dev/null &
    pids+=($!)
  done
  while :; do
    still=()
    for i in "${!todo[@]}"; do
      if [ -n "${pids[i]}" ]; then
        if kill -0 "${pids[i]}" 2>/dev/null; then
          still+=("${todo[i]}")
        elif wait "${pids[i]}"; then
          say "${todo[i]}" "is installed after $((SECONDS - began)) s"
          pids[i]=
        else
          tail -n 15 "$STACK/install-logs/${todo[i]}.log" >&2
          warn "${todo[i]}" "could not be installed; all it said is in $STACK/install-logs/${todo[i]}.log"
          pids[i]=
          failed=1
        fi
      fi
    done
    [ ${#still[@]} -gt 0 ] || break
    if [ $(((SECONDS - began) % 15)) -eq 14 ]; then say stack "still installing after $((SECONDS - began)) s: ${still[*]}"; fi
    sleep 1
  done
  [ "$failed" -eq 0 ] || die "not all could be installed; run it again to go on from there"
}
