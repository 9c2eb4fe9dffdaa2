# shellcheck shell=bash
# Apache Kafka, one process as broker and KRaft controller, from its jars.

KAFKA_VERSION=4.1.1

kafka_version() { echo "$KAFKA_VERSION"; }
kafka_needs() {
  need_java
  kafka_installed || need_maven
}
kafka_installed() { installed "kafka-$KAFKA_VERSION"; }
kafka_install() { maven_jars kafka "$KAFKA_VERSION"; }
kafka_answers() { probe kafka "$(served_port kafka)"; }
kafka_stop_signal() { echo TERM; }

kafka_prepare() {
  local conf="$STACK/conf/kafka" data="$STACK/data/kafka" controller secure id
  java_new_enough
  controller="$(port kafka_controller)"
  if listening "$controller"; then
    die "port $controller, for Kafka's controller, is taken by another program: set NEARCAST_STACK_KAFKA_CONTROLLER_PORT"
  fi
  secure="$(port kafka_secure)"
  if listening "$secure"; then
    die "port $secure, for Kafka's encrypted listener, is taken by another program: set NEARCAST_STACK_KAFKA_SECURE_PORT"
  fi
  printf '%s\n' "$controller" >"$STACK/run/kafka_controller.port"
  printf '%s\n' "$secure" >"$STACK/run/kafka_secure.port"
  owned_dir "$conf" "$data"
  kafka_certificate "$data"
  cat >"$conf/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=CLIENTS://127.0.0.1:$(port kafka),SECURE://127.0.0.1:$secure,CONTROLLER://127.0.0.1:$controller
advertised.listeners=CLIENTS://127.0.0.1:$(port kafka),SECURE://127.0.0.1:$secure
listener.security.protocol.map=CLIENTS:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
# As brokers in production are reached: encrypted, and by those alone who say who they are.
listener.name.secure.ssl.keystore.type=PKCS12
listener.name.secure.ssl.keystore.location=$data/broker.p12
listener.name.secure.ssl.keystore.password=$(secret kafka-keystore)
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_nearcast="$(secret kafka-nearcast)";
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs=$data/logs

auto.create.topics.enable=false
num.partitions=8
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
message.max.bytes=8388608
replica.fetch.max.bytes=8388608

# A group is complete when its members are; the tests kill members, and may ask for short sessions.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Records bear the time of their event, which may be decades ago: by age they would be deleted as soon as written.
log.retention.ms=-1
log.segment.bytes=134217728

# A small heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
END
  cat >"$conf/log4j2.properties" <<'END'
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
END
  if is_root; then chown -R "$SERVER_USER:$SERVER_USER" "$conf"; fi
  if [ ! -s "$data/logs/meta.properties" ]; then
    # An id of the form Kafka asks for: 16 bytes in URL-safe base64.
    id="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | python3 -c \
      'import base64,sys; print(base64.urlsafe_b64encode(bytes.fromhex("51"+sys.stdin.read()[2:])).decode().rstrip("="))')"
    as_server java -Xmx128m -cp "$STACK/software/kafka-$KAFKA_VERSION/lib/*" \
      "-Dlog4j2.configurationFile=$conf/log4j2.properties" kafka.tools.StorageTool \
      format --ignore-formatted -t "$id" -c "$conf/server.properties" >>"$STACK/logs/kafka.log" 2>&1
  fi
}

# kafka_certificate DIR: a key for the encrypted listener, and the certificate that clients are to trust, once.
kafka_certificate() {
  [ ! -s "$1/ca.pem" ] || return 0
  as_server rm -f "$1/broker.p12"
  as_server keytool -genkeypair -alias broker -keyalg EC -validity 3650 -dname CN=127.0.0.1 -ext san=ip:127.0.0.1,dns:localhost \
    -storetype PKCS12 -keystore "$1/broker.p12" -storepass "$(secret kafka-keystore)" >>"$STACK/logs/kafka.log" 2>&1
  as_server keytool -exportcert -rfc -alias broker -keystore "$1/broker.p12" -storepass "$(secret kafka-keystore)" \
    -file "$1/ca.pem.new" >>"$STACK/logs/kafka.log" 2>&1
  as_server mv "$1/ca.pem.new" "$1/ca.pem"
}

# The user of the encrypted listener, by the mechanism whose passwords the cluster itself keeps, once.
kafka_finish() {
  local mark="$STACK/data/kafka/users-made"
  [ ! -e "$mark" ] || return 0
  as_server java -Xmx128m -cp "$STACK/software/kafka-$KAFKA_VERSION/lib/*" \
    "-Dlog4j2.configurationFile=$STACK/conf/kafka/log4j2.properties" kafka.admin.ConfigCommand \
    --bootstrap-server "127.0.0.1:$(port kafka)" --alter --entity-type users --entity-name nearcast \
    --add-config "SCRAM-SHA-512=[password=$(secret kafka-nearcast)]" >>"$STACK/logs/kafka.log" 2>&1
  touch "$mark"
}

kafka_command() {
  # A collector without threads of its own, and nothing compiled twice: six servers share the cores.
  COMMAND=(java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -cp "$STACK/software/kafka-$KAFKA_VERSION/lib/*"
    "-Dlog4j2.configurationFile=$STACK/conf/kafka/log4j2.properties" kafka.Kafka "$STACK/conf/kafka/server.properties")
}
