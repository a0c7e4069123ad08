#!/usr/bin/env bash
# gpu_wheels.sh DIR: collects the wheels that scripts/gpu_check.sh installs on a GPU machine without a network.
#
# That machine has Python 3.12, jax 0.11.2 with its CUDA 13 plugin, and the packages of PRESENT; what the project needs beyond them
# is resolved against a registry here, whatever this machine's own Python is. Over LIMIT bytes in all it fails, as such a folder often
# has to travel with the checkout.
set -euo pipefail
dir=${1:?usage: gpu_wheels.sh DIR}
python=${PYTHON:-python3}
export LIMIT=${LIMIT:-50000000}
wanted=(jax==0.11.2 ml_collections "grain>=0.2.18,<0.3" "tensorboardX>=2.6" "flax>=0.12.10,<0.13" "optax>=0.2.8,<0.3"
        "orbax-checkpoint>=0.12.8,<0.13" "tokamax>=0.0.17")
export NAMED="ml-collections grain tensorboardx flax optax orbax-checkpoint tokamax"  # newer ones than the machine's own may be needed
export PRESENT="absl-py accelerate aiofiles aiohttp attrs certifi charset-normalizer chex click cloudpickle einops etils filelock fsspec
  grpcio huggingface-hub humanize idna jax jaxlib jaxtyping jinja2 markdown-it-py markupsafe matplotlib mdurl ml-dtypes mpmath msgpack
  numpy opt-einsum packaging peft pillow pip pluggy prometheus-client protobuf psutil pyarrow pygments pytest pytest-timeout pytest-xdist
  python-dateutil pyyaml regex requests rich safetensors scipy setuptools simplejson six sympy tensorboard tensorstore tokenizers toolz
  torch tqdm transformers treescope triton typer typing-extensions urllib3 uvloop wadler-lindig werkzeug wheel wrapt zipp"
# What xprof, tokamax's profiler, needs for its own server and for files in a cloud: a hundred megabytes that nothing imports here.
export SKIPPED="cheroot duckdb google-cloud-storage gviz-api"
target=(--python-version 3.12 --implementation cp --only-binary=:all:)
for libc in _2_28_x86_64 _2_27_x86_64 _2_26_x86_64 _2_24_x86_64 _2_17_x86_64 2014_x86_64 1_x86_64; do
  target+=(--platform "manylinux$libc")
done
mkdir -p "$dir"
report=$(mktemp)
trap 'rm -f "$report"' EXIT
"$python" -m pip install --quiet --dry-run --ignore-installed --report "$report" --target "$dir/unused" "${target[@]}" "${wanted[@]}"
pins=$("$python" - "$report" <<'PYTHON'
import json
import os
import sys

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name as plain

MACHINE = {"python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux", "platform_system": "Linux",
           "platform_machine": "x86_64", "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
found = {plain(item["metadata"]["name"]): item["metadata"] for item in json.load(open(sys.argv[1]))["install"]}
left_out = set(os.environ["PRESENT"].split()) | set(os.environ["SKIPPED"].split())
open_names, kept = os.environ["NAMED"].split(), {}
while open_names:
    name = open_names.pop()
    kept[name] = found[name]["version"]
    needs = map(Requirement, found[name].get("requires_dist", []))
    needs = {plain(need.name) for need in needs if need.marker is None or need.marker.evaluate(MACHINE)}
    open_names += needs - left_out - kept.keys()
print(*(f"{name}=={version}" for name, version in sorted(kept.items())))
PYTHON
)
rm -f "$dir"/*.whl  # two versions of one package would stop the installation
# shellcheck disable=SC2086  # one word a package
"$python" -m pip download --quiet --no-deps --dest "$dir" "${target[@]}" $pins
size=$(du -cb "$dir"/*.whl | tail -1 | cut -f1)
echo "$(ls "$dir"/*.whl | wc -l) wheels, $size bytes, in $dir: $pins"
if ((size > LIMIT)); then
  echo "Error: $size bytes of wheels are more than LIMIT=$LIMIT: find out what a new version brought along." >&2
  exit 1
fi
