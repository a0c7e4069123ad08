#!/usr/bin/env bash
# install_sglang_cpu.sh DIR: SGLang in a virtual environment of its own, made to run on a CPU. Two minutes, 3.5 GB.
#
# SGLang's package asks for a CUDA torch and a dozen packages of CUDA kernels. So it is installed without its dependencies, then
# those that its metadata lists, but for the ones that only a GPU can use; a stand-in takes the place of its own kernels.
set -euo pipefail
dir=${1:?usage: install_sglang_cpu.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
test -x "$dir/bin/python" || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --quiet torch==2.13.0 packaging
"$dir/bin/pip" install --quiet --no-deps sglang==0.5.23 xgrammar==0.2.7 triton==3.9.0 torchvision==0.28.0
"$dir/bin/python" - >"$dir/requirements.txt" <<'PYTHON'
import re
from importlib.metadata import requires

from packaging.requirements import Requirement

GPU = re.compile(r"torch.*|xgrammar|triton|cuda.*|nv(idia|shmem).*|flash.*|.*-kernels?|sgl-.*|tilelang|timm|smg-.*|tml-.*|deepseek-.*|build")
for wanted in map(Requirement, requires("sglang")):
    name = wanted.name.replace("_", "-").lower()
    kept = name in ("kernels", "nvidia-ml-py") or not GPU.fullmatch(name)
    if kept and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
        print(f"{wanted.name}{wanted.specifier}")
PYTHON
"$dir/bin/pip" install --quiet -r "$dir/requirements.txt"
site=$("$dir/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
cp -r "$here/sgl_kernel" "$site/"
# torchvision registers operators that the CPU's torch lacks; its image transforms, which SGLang imports, work without.
sed -i '/_meta_registrations/d' "$site/torchvision/__init__.py"
"$dir/bin/python" -c "from importlib.metadata import version; print('sglang', version('sglang'))"
