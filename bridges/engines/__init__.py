"""Rollouts on servers of SGLang and vLLM: clients, weight sync, a probe of what the servers compute, and a
pool of them.

A run launches its servers by itself (rollout.backend, servers.python), or takes running ones (servers.urls),
which are started so:

    VLLM_SERVER_DEV_MODE=1 PYTHONPATH=bridges/servers/worker python -m vllm.entrypoints.openai.api_server \\
        --model MODEL --enable-scale-out --logprobs-mode processed_logprobs \\
        --worker-extension-cls jaxrl_vllm_worker.Extension --weight-transfer-config '{"backend": "jaxrl"}'
        (adapters: --enable-lora --max-lora-rank 16 --max-loras 2, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1)

    python -m sglang.launch_server --model-path MODEL
        (adapters: --enable-lora --max-lora-rank 16 --max-loras-per-batch 2
        --lora-target-modules q_proj k_proj v_proj o_proj)

Read in this order: http (one request), server (what is asked of a server) with receiver (how it comes to new
weights), vllm and sglang, launch, sync (versions of the weights) with buckets (how they are streamed) and
group (by torch.distributed), probe (do they compute what we do), pool (several servers, and their faults),
engine (the protocol of jaxrl_moe/protocols.py), shared (the same for a trainer of several processes),
assembly, verify (asked before a run).

Weights that are streamed need no torch here: a bucket is a safetensors file on a RAM disk that the server
maps, and is gone when the server has read it. Nothing is pickled. To servers on machines that share no folder
they are broadcast by torch.distributed instead.
"""
