#!/usr/bin/env bash
# serve_sglang_cpu.sh DIR MODEL PORT [FLAGS...]: SGLang from DIR (see install_sglang_cpu.sh) serves MODEL in float32 on this machine's
# CPU, ready for rollout.backend=sglang with servers.urls=http://127.0.0.1:PORT. Further flags, such as --max-total-tokens 65536, are
# SGLang's own. For adapters: --enable-lora --lora-backend torch_native --max-lora-rank 16 --max-loras-per-batch 2
# --lora-target-modules q_proj k_proj v_proj o_proj. For moe.replay=r3: --enable-return-routed-experts.
set -euo pipefail
dir=${1:?usage: serve_sglang_cpu.sh DIR MODEL PORT [FLAGS...]} model=${2:?no MODEL} port=${3:?no PORT}
shift 3
export SGLANG_USE_CPU_ENGINE=1
exec "$dir/bin/python" -m sglang.launch_server --model-path "$model" --served-model-name policy --dtype float32 --device cpu \
  --attention-backend torch_native --disable-overlap-schedule --host 127.0.0.1 --port "$port" "$@"
