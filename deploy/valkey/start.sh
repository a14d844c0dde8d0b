#!/bin/sh
# Valkey with the users of users.acl, printed by `headwater acls --redis`; the password of each is the secret of its name.
set -eu
deploy=${DEPLOY:-/deploy}
secrets=${SECRETS:-/run/secrets}
users=$(mktemp)
cat "$deploy/users.acl" >"$users"
for file in "$secrets"/*; do
    hash=$(tr -d '\n' <"$file" | sha256sum | cut -d ' ' -f 1)
    sed -i "s/ >PASSWORD_OF_$(basename "$file") / #$hash /" "$users"
done
if grep -q PASSWORD_OF_ "$users"; then
    echo "no secret for $(grep -o 'PASSWORD_OF_[a-z]*' "$users" | tr '\n' ' '): sh deploy/make-secrets.sh" >&2
    exit 1
fi
chown valkey "$users" 2>/dev/null || true
exec docker-entrypoint.sh valkey-server --aclfile "$users" "$@"
