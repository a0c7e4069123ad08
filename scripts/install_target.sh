#!/usr/bin/env bash
# Puts the compiler for NVIDIA's GPUs, JAX's CUDA plugin of jaxlib's own version, into .target/VERSION: 402 MB, no GPU, driver or CUDA
# toolkit needed. In a folder of its own, since beside JAX the plugin complains of a missing driver wherever there is no GPU.
#
#     bash scripts/install_target.sh .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?the Python that has jaxlib, such as .venv/bin/python}
version=$("$python" -c "import importlib.metadata; print(importlib.metadata.version('jaxlib'))")
if [ -d ".target/$version" ]; then
    exit 0
fi
echo "Installing the compiler for GPUs into .target/$version: 402 MB"
part=.target/part.$$
trap 'rm -rf "$part"' EXIT
"$python" -m pip install --quiet --no-deps --target "$part" "jax-cuda13-plugin==$version" "jax-cuda13-pjrt==$version"
mv "$part" ".target/$version"
