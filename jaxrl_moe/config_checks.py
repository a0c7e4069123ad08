"""What is wrong with a configuration that needs no model, data or table of names to see: ranges, and names that are fixed."""
from collections.abc import Iterator

_ANY = float("inf")
_LEAST = 1e-30  # for "more than 0"
RANGES = {  # key: (lowest, highest) allowed value
    "seed": (0, 2**31 - 1), "lora.rank": (0, _ANY), "lora.alpha": (_LEAST, _ANY), "lora.dropout": (0, 0.99),
    "scratch.vocab_size": (0, _ANY), "scratch.hidden_size": (1, _ANY), "scratch.num_layers": (1, _ANY),
    "scratch.num_heads": (1, _ANY), "scratch.num_kv_heads": (1, _ANY), "scratch.head_dim": (2, _ANY),
    "scratch.num_experts": (0, _ANY), "scratch.num_experts_per_tok": (1, _ANY),
    "scratch.intermediate_size": (1, _ANY), "scratch.context": (2, _ANY), "scratch.initializer_range": (_LEAST, _ANY),
    "data.max_prompt_tokens": (1, _ANY), "env.overlong_tokens": (0, _ANY),
    "rollout.prompts_per_step": (1, _ANY), "rollout.group_size": (1, _ANY),
    "rollout.max_tokens": (1, _ANY), "rollout.temperature": (_LEAST, _ANY), "rollout.top_p": (_LEAST, 1),
    "rollout.top_k": (0, _ANY), "rollout.min_p": (0, 0.999999), "rollout.slots": (1, _ANY), "rollout.page_size": (1, _ANY),
    "servers.count": (1, _ANY), "servers.start_timeout": (_LEAST, _ANY), "servers.concurrency": (1, _ANY),
    "servers.request_timeout": (_LEAST, _ANY), "servers.wait": (0, _ANY), "servers.tolerance": (0, _ANY),
    "servers.bucket_bytes": (1, _ANY), "endpoint.port": (0, 65535), "endpoint.queue": (0, _ANY),
    "rollout.kv_tokens": (0, _ANY), "rollout.memory_fraction": (_LEAST, 1), "rollout.decode_steps": (1, _ANY),
    "algorithm.clip_low": (0, _ANY),
    "algorithm.clip_high": (0, _ANY), "algorithm.entropy_coef": (0, _ANY), "algorithm.kl_coef": (0, _ANY),
    "algorithm.kl_target": (0, _ANY), "algorithm.gamma": (0, 1), "algorithm.lam": (0, 1), "algorithm.turn_gamma": (0, 1),
    "algorithm.overlong_tokens": (0, _ANY), "algorithm.overlong_cushion": (0, _ANY), "rollout.max_rounds": (1, _ANY),
    "rollout.max_staleness": (0, _ANY), "rollout.graders": (1, 1024),
    "critic.learning_rate": (0, _ANY), "critic.coef": (_LEAST, _ANY), "critic.clip": (0, _ANY), "moe.aux_loss_coef": (0, _ANY),
    "moe.z_loss_coef": (0, _ANY), "moe.bias_rate": (0, _ANY),
    "algorithm.step_lambda": (_LEAST, _ANY),
    "algorithm.truncated_penalty": (0, _ANY), "algorithm.epochs": (1, _ANY), "algorithm.minibatches": (1, _ANY),
    **{f"mesh.{axis}": (-1, _ANY) for axis in ("data", "fsdp", "expert", "tensor", "context")}, "mesh.capacity_factor": (0, _ANY),
    "mesh.host_devices": (0, _ANY), "mesh.pipeline": (1, _ANY),
    **{f"rollout_mesh.{axis}": (-1, _ANY) for axis in ("data", "fsdp", "expert", "tensor")},
    "optimizer.learning_rate": (0, _ANY), "optimizer.warmup_steps": (0, _ANY), "optimizer.weight_decay": (0, _ANY),
    "optimizer.b1": (0, 0.999999), "optimizer.b2": (0, 0.99999999), "optimizer.eps": (0, _ANY),
    "optimizer.clip_norm": (0, _ANY), "train.steps": (0, _ANY), "train.tokens_per_micro_batch": (1, _ANY),
    "sft.steps": (0, _ANY), "sft.epochs": (0, _ANY), "sft.sequences_per_step": (1, _ANY), "sft.max_tokens": (2, _ANY),
    "sft.learning_rate": (0, _ANY), "sft.stop_at_accuracy": (0, 1), "sft.eval_every": (0, _ANY),
    "eval.every": (0, _ANY), "eval.prompts": (0, _ANY), "eval.samples": (1, _ANY), "eval.temperature": (_LEAST, _ANY),
    "checkpoint.every": (0, _ANY), "checkpoint.keep": (1, _ANY), "logging.profile_start": (-1, _ANY),
    "logging.profile_steps": (1, _ANY),
}


_CHOICES = {  # key: (what it may be, how that reads)
    "mesh.transport": (("auto", "gather", "capacity", "ragged"), "use gather or ragged (drop nothing), capacity, or auto (gather)"),
    "mesh.dispatch": (("auto", "single", "ipc", "hybrid"), "use single, ipc (inside one host), hybrid (over several), or auto"),
    "model.dtype": (("", "float32", "bfloat16"), "use float32, bfloat16, or leave it empty (float32 on CPU, bfloat16 elsewhere)"),
    "data.generate": (("", "word_problems"), "word_problems is all that can be generated"),
}


def problems(config) -> Iterator[str]:
    """Yields the values of a Config that are out of range or unknown; what contradicts what, the checks say."""
    for key, (low, high) in RANGES.items():
        value = _value(config, key)
        if not low <= value <= high:
            limit = f"at least {low}" if high == _ANY else f"between {low} and {high}"
            yield f"{key} = {value} is out of range: it must be {limit}."
    for key, (choices, mend) in _CHOICES.items():
        if _value(config, key) not in choices:
            yield f"{key} = {_value(config, key)!r} is not known: {mend}."


def _value(config, key: str):
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)
