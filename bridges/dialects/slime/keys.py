"""slime's flags, with those of Megatron and of SGLang that its scripts take; defaults are slime's."""
from bridges.dialects.kinds import FLAG, SEVERAL, TEXT, TEXTS, integer, number, one_of, only
from bridges.dialects.rows import Key, Table, beside, unused
from bridges.dialects.slime import algorithm, devices, rules

_SHAPE = "config.json of the model says it"
_CLUSTER = "one process holds the devices here, and no cluster of Ray"
_COMPILED = "XLA compiles the programs, and chooses their kernels"
_TASK = "a task is named by env.name, and plays and grades its episodes"
_NAMED = "curves are named by run_dir and logging.wandb_project"
_WHOLE = "checkpoints are whole, and a run goes on from the newest in run_dir"
_CHAT = "every prompt goes through the tokenizer's own chat template"
_TOKENS = "what is trained are the tokens that were drawn, known by their ids: no text is looked at again"
SGLANG = "sglang-"  # begins flags that go on to SGLang's servers

_MODEL: Table = {
    "hf-checkpoint": Key(TEXT, rules.model, "", default=""),
    "load": Key(TEXT, rules.load, ""),
    "ref-load": Key(TEXT, rules.reference, ""),
    "save": Key(TEXT, "run_dir", "logs, checkpoints and exports", default="runs/slime"),
    "save-interval": Key(integer(1), "checkpoint.every", "steps"),
    "save-hf": unused(TEXT, "the merged model is exported to run_dir at the end"),
    **{name: unused(integer(1), _SHAPE) for name in (
        "num-layers", "hidden-size", "ffn-hidden-size", "num-attention-heads", "num-query-groups",
        "vocab-size", "kv-channels", "rotary-base", "num-experts", "moe-router-topk", "moe-ffn-hidden-size",
        "max-position-embeddings", "make-vocab-size-divisible-by", "moe-shared-expert-intermediate-size")},
    **{name: unused(FLAG, _SHAPE) for name in (
        "swiglu", "group-query-attention", "use-rotary-position-embeddings", "disable-bias-linear",
        "qk-layernorm", "untie-embeddings-and-output-weights", "add-qkv-bias", "moe-router-pre-softmax",
        "moe-grouped-gemm")},
    **{name: unused(TEXT, _SHAPE) for name in (
        "normalization", "norm-epsilon", "moe-router-score-function", "moe-layer-freq", "rotary-percent",
        "model-name", "spec")},
    **{name: unused(only(0, 0.0, because="drops activations of the base model, which is not done here",
                    mend="give 0, and see --config.lora.dropout"), "nothing is dropped")
       for name in ("attention-dropout", "hidden-dropout")},
    **{name: unused(FLAG, _WHOLE) for name in (
        "no-load-optim", "no-load-rng", "finetune", "no-save-optim", "async-save")},
    "ckpt-format": unused(TEXT, _WHOLE)}

_DEVICES: Table = {
    "tensor-model-parallel-size": Key(integer(1), "mesh.tensor", "", default=1),
    "context-parallel-size": Key(integer(1), "mesh.context", "", default=1),
    "pipeline-model-parallel-size": Key(integer(1), "mesh.pipeline", "layers are not split into stages here",
                                        default=1),
    "expert-model-parallel-size": Key(integer(1), "mesh.expert", "", default=1),
    "expert-tensor-parallel-size": unused(only(1, because="splits an expert, which cannot be done here",
                                          mend="give 1, and expert-model-parallel-size"),
                                          "experts stay whole"),
    "actor-num-gpus-per-node": Key(integer(1), devices.data_parallel, "the devices that tensor, context and "
                                   "expert leave: weights and rows are split over them"),
    "actor-num-nodes": beside(integer(1), "actor-num-gpus-per-node", "", default=1),
    "sequence-parallel": unused(FLAG, "activations are sharded as the mesh says"),
    "colocate": Key(FLAG, devices.colocate, "", default=False),
    "rollout-num-gpus": beside(integer(1), "colocate", ""),
    "rollout-num-gpus-per-engine": beside(integer(1), "colocate", "", default=1),
    "num-gpus-per-node": unused(integer(1), _CLUSTER),
    "recompute-granularity": Key(one_of("full", "selective"), devices.remat, ""),
    "recompute-method": unused(TEXT, "train.remat computes whole layers again"),
    "recompute-num-layers": unused(integer(1), "train.remat computes whole layers again"),
    "optimizer-cpu-offload": Key(FLAG, devices.offload, "in the host's memory between uses"),
    "offload-ref": Key(FLAG, devices.offload_reference, "in the host's memory between uses"),
    **{name: unused(FLAG, "the engine's KV pool is freed for the update; weights are held once") for name in (
        "offload", "offload-train", "offload-rollout", "offload-old-actor", "no-offload-train",
        "no-offload-rollout")},
    **{name: unused(FLAG, _COMPILED) for name in (
        "accumulate-allreduce-grads-in-fp32", "attention-softmax-in-fp32", "overlap-cpu-optimizer-d2h-h2d",
        "use-precision-aware-optimizer", "use-distributed-optimizer", "overlap-grad-reduce",
        "overlap-param-gather", "no-rope-fusion", "no-bias-swiglu-fusion", "no-gradient-accumulation-fusion",
        "moe-permute-fusion", "recompute-loss-function", "bf16", "moe-token-dispatcher-fusion")},
    **{name: unused(TEXT, _COMPILED) for name in (
        "attention-backend", "transformer-impl", "distributed-backend", "moe-token-dispatcher-type",
        "train-backend", "distributed-timeout-minutes", "log-probs-chunk-size", "moe-router-dtype")}}

_BATCHES: Table = {
    "num-rollout": Key(integer(1), rules.rollouts, "each a batch of rollouts and its updates", default=None),
    "num-epoch": Key(integer(1), rules.epochs, "passes x (rows // rollout-batch-size)"),
    "rollout-batch-size": Key(integer(1), "rollout.prompts_per_step", "prompts", default=8),
    "n-samples-per-prompt": Key(integer(1), "rollout.group_size", "", default=1),
    "global-batch-size": Key(integer(1), rules.global_batch, "rollout-batch-size x n-samples-per-prompt / "
                             "global-batch-size"),
    "num-steps-per-rollout": Key(integer(1), "algorithm.minibatches", ""),
    "micro-batch-size": Key(integer(1), rules.micro_batch, "sequences of the longest prompt and response, on "
                            "each device", default=1),
    "max-tokens-per-gpu": Key(integer(1), rules.tokens_per_gpu, "on all devices, and never less than the "
                              "longest sequence on each"),
    "use-dynamic-batch-size": unused(FLAG, "sequences are packed up to train.tokens_per_micro_batch"),
    "log-probs-max-tokens-per-gpu": unused(integer(1), "as max-tokens-per-gpu"),
    "balance-data": unused(FLAG, "sequences are packed by their lengths over all devices"),
    "balance-by-flops": unused(FLAG, "sequences are packed by their lengths over all devices")}

_DATA: Table = {
    "prompt-data": Key(TEXT, rules.prompt_data, "", default=""),
    "input-key": unused(only("prompt", "question", because="names another column than `prompt`, which is the "
                        "one that is read", mend="rename it in the file, and give prompt"),
                        "the column `prompt` is read"),
    "label-key": unused(TEXT, "a task reads what it needs of the whole row"),
    "metadata-key": unused(TEXT, "a task reads what it needs of the whole row"),
    "tool-key": unused(only("tools", because="names another column than `tools`", mend="rename it"),
                       "as it is read"),
    "apply-chat-template": unused(FLAG, _CHAT),
    "use-native-chat-template": unused(FLAG, _CHAT),
    "loss-mask-type": unused(TEXT, _TOKENS),
    "rollout-shuffle": Key(FLAG, "data.shuffle", "", default=False),
    "rollout-seed": Key(integer(0), rules.seed, "of sampling too"),
    "seed": Key(integer(0), "seed", "", default=1234),
    "start-rollout-id": unused(only(0, because="says where to go on, which the newest checkpoint does",
                               mend="leave it out, or see --config.checkpoint.resume_step"), _WHOLE)}

_ROLLOUT: Table = {
    "rollout-max-prompt-len": Key(integer(1), rules.prompt_length, ""),
    "rollout-max-response-len": Key(integer(1), rules.response_length, "", default=0),
    "rollout-max-context-len": Key(integer(2), rules.context, "of all turns"),
    "rollout-temperature": Key(number(1e-6), "rollout.temperature", "", default=1.0),
    "rollout-top-p": Key(number(1e-6, 1), "rollout.top_p", "", default=1.0),
    "rollout-top-k": Key(integer(1, also=(-1, 0)), rules.top_k, "-1: all tokens", default=-1),
    "rollout-stop": Key(TEXTS, "rollout.stop_strings", ""),
    "rollout-stop-token-ids": unused(SEVERAL, "the model's own end of sequence ends a completion, and "
                                     "rollout-stop"),
    "rollout-skip-special-tokens": unused(FLAG, _TOKENS),
    "dynamic-sampling-filter-path": Key(TEXT, rules.dynamic, "only groups whose rewards differ"),
    "over-sampling-batch-size": unused(integer(1),
                                       "further groups are drawn one by one until the batch is full"),
    "partial-rollout": unused(FLAG, "see --config.rollout.max_staleness: what is not done goes on under new "
                              "weights"),
    "max-turns": Key(integer(1), rules.turns, "", default=1),
    "rm-type": Key(TEXT, rules.task, "", default=""),
    "rollout-task-type": beside(TEXT, "max-turns", ""),
    **{name: unused(TEXT, _TASK) for name in (
        "rollout-function-path", "custom-generate-function-path", "custom-rm-path", "eval-function-path",
        "data-source-path", "buffer-filter-path")},
    "agent-rollout-buffer-url": unused(TEXT, "rollouts come from this process, without a buffer's server"),
    "reward-key": unused(TEXT, _TASK)}

_EVALUATION: Table = {
    "eval-interval": Key(integer(1), rules.with_held_out("eval.every"), "steps"),
    "eval-prompt-data": Key(TEXTS, rules.held_out, "the file of the one data set"),
    "n-samples-per-eval-prompt": Key(integer(1), rules.with_held_out("eval.samples"), ""),
    "eval-temperature": Key(number(1e-6), rules.with_held_out("eval.temperature"), ""),
    "eval-max-response-len": Key(integer(1), rules.as_in_training("rollout-max-response-len"), ""),
    "eval-top-p": Key(number(0, 1), rules.as_in_training("rollout-top-p"), ""),
    "eval-top-k": Key(integer(-1), rules.as_in_training("rollout-top-k"), ""),
    "eval-input-key": unused(only("prompt", "question", because="names another column than `prompt`",
                             mend="rename it"), "the column `prompt` is read"),
    "eval-label-key": unused(TEXT, "a task reads what it needs of the whole row"),
    "skip-eval-before-train": Key(FLAG, rules.no_first_evaluation, "")}

_LOGGING: Table = {
    "use-wandb": Key(FLAG, rules.wandb, ""),
    "wandb-project": beside(TEXT, "use-wandb", "", default="slime"),
    "wandb-key": Key(TEXT, None, "it stands on no command line here: set WANDB_API_KEY, as by --env-file",
                     secret=True),
    **{name: unused(TEXT, _NAMED) for name in (
        "wandb-group", "wandb-team", "wandb-host", "wandb-dir", "wandb-mode", "wandb-run-id",
        "tb-project-name", "tb-experiment-name")},
    "use-tensorboard": Key(FLAG, "logging.tensorboard", ""),
    **{name: unused(FLAG, "metrics.jsonl and trajectories.jsonl have it") for name in (
        "log-passrate", "log-multi-turn", "log-correct-samples", "disable-wandb-random-suffix",
        "wandb-always-use-train-step", "get-mismatch-metrics", "use-rollout-entropy")},
    "log-reward-category": unused(TEXT, "metrics.jsonl has every number of a grade's info")}

KEYS: Table = {
    **_MODEL, **_DEVICES, **_BATCHES, **_DATA, **_ROLLOUT, **_EVALUATION, **_LOGGING, **algorithm.KEYS}
