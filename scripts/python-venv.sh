#!/bin/sh
# Makes .venv/ with the programs that read what we write, as pinned here; does nothing where it is there already.
# Needs python3 of 3.10 or later with venv. PYTHON chooses another interpreter.
set -eu

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=.venv
stamp=$venv/shardsmith-readers

# GPTQModel looks at torch when it is installed, so torch comes first and build isolation is off.
base="torch==2.15.0 numpy==2.4.6 setuptools==84.2.1 wheel packaging"
readers="transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3 huggingface_hub==2.4.0 accelerate==1.15.0
  compressed-tensors==0.20.0 optimum==2.3.0 gptqmodel==7.7.0 mlx[cpu]==0.32.4 mlx-lm==0.32.2 gguf==0.19.0"
wanted="$base $readers"

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "python-venv.sh: $python is older than 3.10" >&2; exit 1; }

echo "Making $venv: a few GB are downloaded, which takes minutes ..." >&2
rm -rf "$venv"
"$python" -m venv "$venv"
# Of GBs of Python a few modules are ever imported, which are compiled then.
pip="$venv/bin/python -m pip --disable-pip-version-check install --quiet --no-compile"
# shellcheck disable=SC2086
{
  $pip $base
  $pip --no-build-isolation $readers
}
printf '%s' "$wanted" > "$stamp"
