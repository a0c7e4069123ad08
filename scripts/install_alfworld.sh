#!/usr/bin/env bash
# install_alfworld.sh DIR: ALFWorld's text games in a virtual environment of their own, 300 MB. One to ten minutes: a
# planner is compiled, which takes a C++ compiler. Parts of it are under the GPL; nothing of it is imported by ours.
set -euo pipefail
dir=${1:?usage: install_alfworld.sh DIR}
test -x "$dir/bin/python" || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --quiet alfworld==0.4.2 textworld==1.7.0 fast-downward-textworld==20.6.4 jericho==3.3.1 \
    TatSu==5.8.3
"$dir/bin/python" -c "from importlib.metadata import version; print('alfworld', version('alfworld'))"
