#!/usr/bin/env bash
# The image and the compose stack, for real: builds the image from a program that was built before, brings the whole stack up,
# sees the retail job's predictions, kills a worker, sees the other take over, and takes everything down.
#   test.sh [PROGRAM]     PROGRAM: the millrace command to put into the image (make docker-test gives it)
# Uses the Docker Engine of this machine where there is one, else one of its own with images made from Debian's and Maven's
# packages (stand-ins.sh).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
program=$(realpath "${1:?the millrace command to put into the image}")
export REPOSITORY=$repository
own=no
if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
    own=yes
    . "$here/lib.sh"
fi
export COMPOSE_PROJECT_NAME=millrace-test KAFKA_PORT=21409 POSTGRES_PORT=21432 S3_PORT=21400 CONNECT_PORT=21483 CONNECT_PORT_2=21484 WORKER_PORT=21485
log=$(mktemp)
staging=$(mktemp -d)
compose() { docker compose --file "$repository/docker/compose.yaml" --progress quiet "$@"; }
step() { # step WHAT COMMAND...
    local from=$EPOCHREALTIME
    if ! "${@:2}" >>"$log" 2>&1; then
        compose --profile '*' logs --no-color --tail 30 >&2 || true
        tail -n 40 "$log" >&2
        echo "FAILED: $1" >&2
        exit 1
    fi
    printf '%7.1f s  %s\n' "$(bc <<<"$EPOCHREALTIME - $from")" "$1"
}
get() { curl --silent --show-error --fail-with-body --max-time 5 "http://127.0.0.1:$1"; }
# The condition is asked for again until it holds; a stack that is slow is no failure.
until_true() { for _ in $(seq 600); do "$@" && return; sleep 0.2; done; return 1; }
expect() { # expect JSON-PATH-EXPRESSION of python, over standard input
    python3 -c "import json, sys; answer = json.load(sys.stdin); sys.exit(not ($1))"
}
job_ended() { [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$COMPOSE_PROJECT_NAME-retail-1")" = 'exited 0' ]; }
offsets() { # records of the predictions' topic
    compose exec -T kafka /opt/kafka/bin/kafka-get-offsets.sh --bootstrap-server kafka:19092 --topic predictions.personalization 2>>"$log" |
        awk -F : '{ sum += $3 } END { print sum }'
}
more_than() { [ "$(offsets)" -gt "$1" ]; }
all_on() { # all_on PORT WORKER: every task runs on this worker
    get "$1/connectors?expand=status" | expect "all(task['state'] == 'RUNNING' and task['worker_id'].startswith('$2') for connector in answer.values() for task in connector['status']['tasks']) and len(answer) == 3"
}
prediction_of_schema() {
    compose exec -T kafka /opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server kafka:19092 --topic predictions.personalization \
        --from-beginning --max-messages 1 --timeout-ms 20000 | head -n 1 | expect "isinstance(answer, dict) and len(answer) > 0"
}
small_enough() { # no more than 120 MB over its base
    local own_bytes base
    own_bytes=$(docker image inspect --format '{{.Size}}' millrace:latest)
    base=$(docker image inspect --format '{{.Size}}' debian:bookworm-slim)
    echo "image: $(((own_bytes - base) / 1000000)) MB over its base"
    [ $((own_bytes - base)) -lt 120000000 ]
}
runs_as_nobody() {
    [ "$(docker image inspect --format '{{.Config.User}}' millrace:latest)" = 1001 ]
    docker run --rm --network none --entrypoint bash millrace:latest -c '! touch /usr/bin/x 2>/dev/null && [ "$(id -u)" = 1001 ]'
}
start_commands_are_there() {
    docker run --rm --network none --entrypoint bash millrace:latest -c '
        for command in /etc/confluent/docker/run /docker-entrypoint.sh /opt/kafka/bin/connect-distributed.sh connect-standalone.sh connect-distributed curl; do
            command -v "$command" >/dev/null || { echo "$command is not there"; exit 1; }
        done
        message=$(connect-standalone.sh a b 2>&1) && exit 1
        [[ $message == *"no standalone mode"* ]]' || return 1
    # it says what has no effect, and what is missing
    docker run --rm --network none --env CONNECT_GROUP_ID=a --env KAFKA_HEAP_OPTS=-Xmx1g millrace:latest start >"$staging/refusal" 2>&1 && return 1
    grep --quiet KAFKA_HEAP_OPTS "$staging/refusal" && grep --quiet 'Missing required configuration "bootstrap.servers"' "$staging/refusal"
}
stopped_by_signal() { # SIGTERM reaches the worker, which ends well
    compose stop --timeout 20 millrace-2
    [ "$(docker inspect --format '{{.State.ExitCode}}' "$COMPOSE_PROJECT_NAME-millrace-2-1")" = 0 ]
}
connectors_of_a_directory() { # one whose class is missing is named, and the other runs
    get "$WORKER_PORT/connectors/kept/status" | expect "answer['connector']['state'] == 'RUNNING'" &&
        compose --profile minimal logs --no-color worker >"$staging/said" 2>&1 &&
        grep --quiet 'gone.json: refused: .*io.confluent.connect.jdbc.JdbcSinkConnector' "$staging/said"
}
healthy_without_a_warning() { # the start of the stack
    ! compose logs --no-color millrace-1 millrace-2 2>>"$log" | grep -E ' (WARN|ERROR) '
}
nothing_left() {
    [ -z "$(docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")" ] &&
        [ -z "$(docker network ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")" ] &&
        [ -z "$(docker volume ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")" ]
}
finish() {
    compose --profile '*' down --volumes --timeout 1 >/dev/null 2>&1 || true
    [ $own = no ] || "$here/engine.sh" stop || true
    rm -rf "$staging" "$log"
}
trap finish EXIT

mkdir "$staging/connectors"
export CONNECTORS=$staging/connectors
echo '{"connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector", "topics": "a"}' >"$CONNECTORS/gone.json"
echo '{"name": "kept", "config": {"connector.class": "FileStreamSource", "file": "/etc/hostname", "topic": "kept"}}' >"$CONNECTORS/kept.json"

whole=$EPOCHREALTIME
pull=missing
if [ $own = yes ]; then
    pull=never
    step 'engine installed and started' "$here/engine.sh" start
    for image in kafka postgres s3; do step "image of $image" "$here/stand-ins.sh" $image; done
fi
strip -o "$staging/millrace" "$program"
step 'image of millrace' docker build --network host --build-arg BINARY=prebuilt --build-context "program=$staging" \
    --tag millrace:latest --file "$repository/docker/Dockerfile" "$repository"
step 'it is small enough' small_enough
step 'it runs as a user without rights' runs_as_nobody
step 'it is started as other images are, and says what has no effect' start_commands_are_there
step 'the stack is up' compose up --detach --pull $pull
step 'its job has its first prediction' until_true job_ended
step 'predictions are on their topic' prediction_of_schema
step 'and no worker had anything to warn of' healthy_without_a_warning
compose kill millrace-1 >>"$log" 2>&1
step 'a worker was killed, and the other has all tasks' until_true all_on "$CONNECT_PORT_2" millrace-2
before=$(offsets)
step 'predictions go on' until_true more_than "$before"
step 'SIGTERM ends a worker in order' stopped_by_signal
step 'a worker with the variables of other images, healthy' compose --profile minimal up --detach --wait --wait-timeout 120 --pull $pull worker
step 'it has the connectors of its directory, and says which class is missing' until_true connectors_of_a_directory
step 'down' compose --profile '*' down --volumes --timeout 10
step 'nothing is left' nothing_left
printf '%7.1f s  in all\n' "$(bc <<<"$EPOCHREALTIME - $whole")"
