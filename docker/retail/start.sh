#!/bin/bash
# Posts the retail job to the workers, waits for its first prediction, and says what to look at.
set -euo pipefail
url=http://millrace-1:8083
send() { # send METHOD PATH TYPE FILE
    local answer
    answer=$(curl --silent --show-error --write-out '\n%{http_code}' -X "$1" -H "Content-Type: application/$3" --data-binary @- "$url$2" <"$4")
    case ${answer##*$'\n'} in
        2??) echo "$1 $2" ;;
        *) echo "$1 $2: $answer" >&2; return 1 ;;
    esac
}
connector() { # connector FILE: with the addresses of this stack
    local name config=/tmp/config.json
    name=$(basename "$1" .json)
    # PUT takes what POST has under "config"
    sed -e 's/"database.hostname": *"[^"]*"/"database.hostname": "postgres"/' "$1" |
        sed -n '/"config": *{/,/^  }/p' | sed -e '1s/.*/{/' -e '$s/.*/}/' >"$config"
    send PUT "/connectors/$name/config" json "$config"
}
number() { curl --silent "$url$1" | grep -o "\"$2\":[0-9]*" | head -n 1 | cut -d : -f 2; }
topic() { # topic CONNECTOR NAME: waits until the connector has written to its topic, which nobody can read before
    echo "waiting for the topic $2"
    until curl --silent "$url/connectors/$1/topics" | grep -q "\"$2\""; do sleep 0.5; done
}

connector configs/retail/catalog.json
connector configs/retail/purchases.json
topic catalog catalog.products
topic purchases events.purchases
for kind in stores feature-views tenants models; do
    for file in configs/demo/inference/"$kind"/*.yaml; do
        name=$(basename "$file" .yaml)
        [ "$kind" = models ] && name=${name/-//}
        send PUT "/inference/$kind/$name" yaml "$file"
    done
done
echo "waiting for the catalog: 27,008 products"
until [ "$(number /inference/stores/products/status rows || true)" = 27008 ]; do sleep 0.5; done
connector configs/retail/inference.json
echo "waiting for the first prediction"
until [ "$(number /inference/models/personalization/reorder/status predictions || echo 0)" -gt 0 ] 2>/dev/null; do sleep 0.5; done
cat <<TEXT

The job runs. Look:
  curl localhost:${CONNECT_PORT:-8083}/connectors?expand=status
  curl localhost:${CONNECT_PORT:-8083}/inference/models/personalization/reorder/status
  curl localhost:${CONNECT_PORT:-8083}/inference/stores/products/keys/1000050
  curl localhost:${CONNECT_PORT:-8083}/inference/fairness
  docker compose exec kafka /opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server kafka:19092 \\
    --topic predictions.personalization --from-beginning --max-messages 3
  docker compose kill millrace-1      # the other worker goes on: ask localhost:${CONNECT_PORT_2:-8084}
TEXT
