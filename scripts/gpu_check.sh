#!/usr/bin/env bash
# gpu_check.sh OUT [--card=h100|h200] [--rehearse] [--stages=a,b,...] [--seconds=540]: for whoever has a GPU for ten minutes.
#
# Checks every GPU path against float64, runs the tests that need a GPU, and measures kernels, the 30B shape, its peers and the
# quickstart. OUT/gpu.md is the table, to be kept as benchmarks/gpu.md; OUT/gpu_*.jsonl are its rows and OUT/gpu.log what the stages
# printed. Exit status 0 if all stages ran to their end and all their rows are good.
#
# The machine needs Python 3.12 with jax 0.11.2, its CUDA 13 plugin included, and no network: what else is missing is installed from
# a folder of wheels that scripts/gpu_wheels.sh filled elsewhere: WHEELS, or `wheels` beside OUT if there is one.
set -euo pipefail
python=${PYTHON:-python3}
out=${1:?usage: gpu_check.sh OUT [--card=h100|h200] [--rehearse] [--stages=a,b,...] [--seconds=540]}
here=$(cd "$(dirname "$0")/.." && pwd)
case $out in
  -*) cd "$here" && exec "$python" -m benchmarks.gpu.check "$@" ;;  # --help, or a mistake that it explains
  /*) ;;
  *) out=$PWD/$out ;;
esac
shift
wheels=${WHEELS:-$(dirname "$out")/wheels}
if compgen -G "$wheels/*.whl" >/dev/null; then
  site=${TMPDIR:-/tmp}/jaxrl_moe_gpu_site  # not the machine's own packages, which may be read-only and should stay as they are
  rm -rf "$site"
  "$python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps --no-compile --target "$site" "$wheels"/*.whl
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
elif [[ -n ${WHEELS:-} ]]; then
  echo "Error: there is no wheel in WHEELS=$WHEELS: run scripts/gpu_wheels.sh $WHEELS on a machine that reaches a registry." >&2
  exit 2
fi
cd "$here"
exec "$python" -m benchmarks.gpu.check "$out" "$@"
