#!/bin/sh
# The users of Kafka and what each may do, said to a broker by the listener that only its own loopback reaches. A password
# stands in no command line. acls.sh is printed by `headwater acls --kafka`; both may be said again.
set -eu
tools=${KAFKA_TOOLS:-/opt/kafka/bin}
deploy=${DEPLOY:-/deploy}
secrets=${SECRETS:-/run/secrets}
admin=${ADMIN:-127.0.0.1:29092}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
umask 077
for file in "$secrets"/*; do
    printf 'SCRAM-SHA-512=iterations=8192,password=%s\n' "$(cat "$file")" >"$made/user"
    "$tools/kafka-configs.sh" --bootstrap-server "$admin" --alter --entity-type users \
        --entity-name "$(basename "$file")" --add-config-file "$made/user"
done
printf '#!/bin/sh\nexec "%s/kafka-acls.sh" "$@"\n' "$tools" >"$made/kafka-acls"
chmod +x "$made/kafka-acls"
PATH="$made:$PATH" sh "$deploy/acls.sh" --bootstrap-server "$admin"
