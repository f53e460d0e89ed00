#!/bin/sh
# Installs transformers.js, which reads our ONNX models, as pinned here, into .transformers-js/; does nothing where it is there already.
# It brings an ONNX Runtime of its own, 0.5 GB unpacked, and so is no dependency of ours.
set -eu

cd "$(dirname "$0")/.."
folder=.transformers-js
stamp=$folder/node_modules/shardsmith-reader
wanted="@huggingface/transformers@4.3.2"

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

echo "Installing $wanted ..." >&2
rm -rf "$folder"
mkdir "$folder"
npm install --prefix "$folder" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error "$wanted"
printf '%s' "$wanted" > "$stamp"
