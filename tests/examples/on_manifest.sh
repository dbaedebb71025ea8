#!/bin/sh
# Runs a command for every finished video below a folder, once each: on_manifest.sh FOLDER COMMAND…
# The command gets the manifest (job_….json) as its last argument. A manifest is written last, so where one lies every file is whole.
# Start it from cron, or from a sink of type "exec".
set -eu
folder=$1
shift
find "$folder" -name 'job_*.json' | while read -r manifest; do
    [ -e "$manifest.done" ] && continue
    # The mark is made after the work: what fails is done again the next time.
    "$@" "$manifest" && touch "$manifest.done"
done
