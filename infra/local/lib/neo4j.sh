# shellcheck shell=bash
# Neo4j Community from its jars. Bolt only, with a password.

NEO4J_VERSION=5.26.12

neo4j_version() { echo "$NEO4J_VERSION"; }
neo4j_needs() {
  need_java
  neo4j_installed || need_maven
}
neo4j_installed() { installed "neo4j-$NEO4J_VERSION"; }
neo4j_install() { maven_jars neo4j "$NEO4J_VERSION"; }
neo4j_answers() { PROBE_PASSWORD="$(secret neo4j)" probe bolt "$(served_port neo4j)"; }
neo4j_stop_signal() { echo TERM; }

neo4j_prepare() {
  local home="$STACK/data/neo4j" conf="$STACK/conf/neo4j"
  java_new_enough
  owned_dir "$home" "$conf"
  cat >"$conf/neo4j.conf" <<END
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:$(port neo4j)
server.bolt.advertised_address=127.0.0.1:$(port neo4j)
server.http.enabled=false
server.https.enabled=false
server.memory.heap.initial_size=256m
server.memory.heap.max_size=512m
server.memory.pagecache.size=128m
db.tx_log.rotation.retention_policy=100M size
dbms.usage_report.enabled=false
END
  if is_root; then chown "$SERVER_USER:$SERVER_USER" "$conf/neo4j.conf"; fi
  # Before its first start a server takes the password it is told; later the one in its store counts.
  if [ ! -e "$home/data/databases/system" ]; then
    NEO4J_HOME="$home" NEO4J_CONF="$conf" as_server java -Xmx128m -cp "$STACK/software/neo4j-$NEO4J_VERSION/lib/*" \
      org.neo4j.cli.AdminTool dbms set-initial-password "$(secret neo4j)" >>"$STACK/logs/neo4j.log" 2>&1
  fi
}

neo4j_command() {
  local opens=() package
  for package in java.nio java.io sun.nio.ch java.util.concurrent; do
    opens+=("--add-opens=java.base/$package=ALL-UNNAMED")
  done
  # A small heap on cores that six servers share: a collector without threads of its own costs less.
  COMMAND=(java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError "${opens[@]}" -cp "$STACK/software/neo4j-$NEO4J_VERSION/lib/*"
    org.neo4j.server.CommunityEntryPoint "--home-dir=$STACK/data/neo4j" "--config-dir=$STACK/conf/neo4j")
}
