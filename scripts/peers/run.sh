#!/bin/sh
# Quantizes with another program, in an environment of its own (venv.sh makes it); what it cost goes to OUTPUT/cost.json.
#   scripts/peers/run.sh PEER MODEL_FOLDER CALIBRATION.json OUTPUT [--bits 4] [--group-size 64]
# PEER: gptqmodel, llm-compressor, llm-compressor-rtn, autoround, autoround-ITERATIONS.
# CALIBRATION.json: token sequences of one length; scripts/bench-quality.ts --keep FOLDER leaves it there. Result of any earlier run
# in OUTPUT is lost. scripts/peers/evaluate.py measures what comes out.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
peer=${1:?usage: run.sh PEER MODEL_FOLDER CALIBRATION.json OUTPUT [--bits N] [--group-size N]}
shift
case $peer in
  gptqmodel) set -- gptqmodel gptq_model.py "$@" ;;
  llm-compressor) set -- llm-compressor llm_compressor.py "$@" ;;
  llm-compressor-rtn) set -- llm-compressor llm_compressor.py "$@" --method rtn ;;
  autoround) set -- autoround autoround.py "$@" ;;
  autoround-*) set -- autoround autoround.py "$@" --iterations "${peer#autoround-}" ;;
  *)
    echo "run.sh: $peer is no peer" >&2
    exit 2
    ;;
esac
environment=$1
script=$2
shift 2
rm -rf "$3"
mkdir -p "$3"
python=$("$here/venv.sh" "$environment")
HF_HUB_OFFLINE=1 exec "$python" "$here/$script" "$@"
