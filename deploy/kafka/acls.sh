#!/bin/sh
# usage: sh acls.sh --bootstrap-server HOST:PORT --command-config admin.properties
set -eu
kafka-acls "$@" --add --allow-principal User:streams --operation Read --operation Write --topic events --topic users --topic erasures --topic dead-letters --topic consents
kafka-acls "$@" --add --allow-principal User:streams --operation Read --topic items --topic identities
kafka-acls "$@" --add --allow-principal User:streams --operation Write --topic examples
kafka-acls "$@" --add --allow-principal User:streams --operation Read --group streams
kafka-acls "$@" --add --allow-principal User:trainer --operation Describe --topic events
kafka-acls "$@" --add --allow-principal User:trainer --operation Read --topic examples --topic erasures
kafka-acls "$@" --add --allow-principal User:trainer --operation Read --operation Write --topic learning --topic model --topic model-deltas
kafka-acls "$@" --add --allow-principal User:trainer --operation Write --topic dead-letters
kafka-acls "$@" --add --allow-principal User:trainer --operation Read --group trainer
kafka-acls "$@" --add --allow-principal User:serving --operation Write --topic events --topic dead-letters
kafka-acls "$@" --add --allow-principal User:serving --operation Read --topic items --topic surfaces --topic requests --topic model --topic model-deltas --topic erasures
kafka-acls "$@" --add --allow-principal User:serving --operation Read --operation Write --topic recommendations
kafka-acls "$@" --add --allow-principal User:serving --operation Read --group serving
kafka-acls "$@" --add --allow-principal User:producer --operation Write --topic events --topic items --topic users --topic identities --topic erasures --topic consents
kafka-acls "$@" --add --allow-principal User:requester --operation Write --topic requests
kafka-acls "$@" --add --allow-principal User:requester --operation Read --topic recommendations
kafka-acls "$@" --add --allow-principal User:gateway --operation Write --topic events --topic items --topic users --topic identities --topic requests --topic erasures --topic consents
kafka-acls "$@" --add --allow-principal User:gateway --operation Read --topic recommendations --topic api-keys
kafka-acls "$@" --add --allow-principal User:gateway --operation Read --operation Write --topic audit
kafka-acls "$@" --add --allow-principal User:page --operation Read --operation Write --topic events --topic items --topic users --topic identities --topic model --topic erasures --topic audit
kafka-acls "$@" --add --allow-principal User:page --operation Read --topic surfaces --topic recommendations --topic model-deltas --topic dead-letters --topic api-keys
kafka-acls "$@" --add --allow-principal User:page --operation Write --topic requests --topic consents
kafka-acls "$@" --add --allow-principal User:doctor --operation Read --operation DescribeConfigs --topic events --topic items --topic users --topic surfaces --topic identities --topic requests --topic recommendations --topic examples --topic learning --topic model --topic model-deltas --topic erasures --topic dead-letters --topic audit --topic consents --topic api-keys
kafka-acls "$@" --add --allow-principal User:doctor --operation Describe --group streams --group trainer --group serving --group redrive
kafka-acls "$@" --add --allow-principal User:doctor --operation Describe --cluster
kafka-acls "$@" --add --allow-principal User:operator --operation Read --operation Write --operation Create --operation DescribeConfigs --operation AlterConfigs --topic events --topic items --topic users --topic surfaces --topic identities --topic requests --topic model --topic erasures --topic audit --topic consents --topic api-keys
kafka-acls "$@" --add --allow-principal User:operator --operation Read --operation Create --operation DescribeConfigs --operation AlterConfigs --topic recommendations --topic examples --topic learning --topic model-deltas --topic dead-letters
kafka-acls "$@" --add --allow-principal User:operator --operation Read --group redrive --group streams --group serving
kafka-acls "$@" --add --allow-principal User:operator --operation Describe --group trainer
kafka-acls "$@" --add --allow-principal User:operator --operation Describe --cluster
kafka-acls "$@" --add --allow-principal User:replay --operation Read --topic events --topic items --topic users --topic surfaces --topic identities --topic requests --topic recommendations --topic examples --topic learning --topic model --topic model-deltas --topic erasures --topic dead-letters --topic audit --topic consents --topic api-keys
