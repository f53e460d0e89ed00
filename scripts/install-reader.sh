#!/bin/sh
# Installs npm packages that read what we write into a folder of their own, as `install-reader.sh .FOLDER PACKAGE@VERSION ...`; does
# nothing where they are there already. They bring prebuilt binaries of hundreds of MB, and so are no dependencies of ours.
set -eu

cd "$(dirname "$0")/.."
folder=$1
shift
stamp=$folder/node_modules/shardsmith-reader
wanted=$*

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

echo "Installing $wanted ..." >&2
rm -rf "$folder"
mkdir "$folder"
npm install --prefix "$folder" --no-save --no-package-lock --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error "$@"
printf '%s' "$wanted" > "$stamp"
