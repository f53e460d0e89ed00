#!/bin/sh
# Makes the Python environment of a peer, as pinned here, and prints its interpreter; does nothing more where it is there already.
#   scripts/peers/venv.sh gptqmodel|llm-compressor|autoround|readers
# They lie in .peers/ (PEERS chooses another folder), GPTQModel's and the readers' in .venv/ (scripts/python-venv.sh): a few GB each.
# Needs python3 of 3.10 or later with venv; PYTHON chooses another interpreter. Everything comes from PyPI.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
name=${1:?usage: venv.sh gptqmodel|llm-compressor|autoround|readers}
python=${PYTHON:-python3}

case $name in
  gptqmodel | readers)
    "$root/scripts/python-venv.sh" >&2
    echo "$root/.venv/bin/python"
    exit 0
    ;;
  # Each brings the transformers that it was written for; one environment cannot hold all three.
  llm-compressor) wanted="torch==2.14.0 transformers==5.17.0 numpy==2.4.6 accelerate==1.15.0 datasets==5.2.0 llmcompressor==0.14.0.1" ;;
  autoround) wanted="torch==2.15.0 transformers==5.24.0 numpy==2.4.6 accelerate==1.15.0 datasets==5.2.0 auto-round==0.16.1" ;;
  *)
    echo "venv.sh: $name is no peer; there are gptqmodel, llm-compressor, autoround and readers" >&2
    exit 2
    ;;
esac

venv=${PEERS:-$root/.peers}/$name
stamp=$venv/shardsmith-peer
if ! { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }; then
  echo "Making $venv: a few GB are downloaded, which takes minutes ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet $wanted >&2
  printf '%s' "$wanted" > "$stamp"
fi
echo "$venv/bin/python"
