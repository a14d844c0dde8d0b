#!/bin/sh
# A password for each user of docker-compose.yml, made once: sh deploy/make-secrets.sh
# The folder is its owner's alone; the files can be read by the users inside the containers that they are mounted into.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in streams trainer serving producer requester gateway page doctor operator replay; do
    if [ ! -s "secrets/$name" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name"
        chmod 644 "secrets/$name"
    fi
done
