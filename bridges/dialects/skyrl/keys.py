"""SkyRL's YAML with Hydra's dotted overrides, and the keys of nmoe's example; defaults are those of
ppo_base_config.yaml."""
from bridges.dialects.kinds import (
    ANYTHING,
    FLAG,
    NUMBERS,
    TABLE,
    TEXT,
    TEXTS,
    integer,
    number,
    one_of,
    only,
    optional,
)
from bridges.dialects.rows import Key, Table, beside, unused
from bridges.dialects.skyrl import algorithm, devices, rules

_PLACED = "the reference and the critic lie on the policy's own devices"
_ENGINE = "of inference servers; the engine of this process has its own settings, --config.rollout.*"
_COMPILED = "every program is compiled by XLA"
_AUTO = "the programs shard gradients and weights as the mesh says"
_EXPORTS = "the merged model and its adapter are exported to run_dir at the end"
_NAMES = "curves are named by run_dir and logging.wandb_project"

ALIASES = {
    "trainer.mini_batch_size": "trainer.policy_mini_batch_size",
    "trainer.max_response_length": "generator.sampling_params.max_generate_length",
    "trainer.save_interval": "trainer.ckpt_interval",
    "trainer.max_checkpoints": "trainer.max_ckpts_to_keep",
    "trainer.target_modules": "trainer.policy.model.lora.target_modules",
    "trainer.algorithm.ppo_loss_type": "trainer.algorithm.policy_loss_type",
    "generator.max_tokens": "generator.sampling_params.max_generate_length",
    "generator.temperature": "generator.sampling_params.temperature",
    "generator.top_p": "generator.sampling_params.top_p",
    "generator.top_k": "generator.sampling_params.top_k",
    "generator.min_p": "generator.sampling_params.min_p",
    "generator.n": "generator.n_samples_per_prompt"}

_DATA: Table = {
    "defaults": Key(ANYTHING, rules.bases, ""),
    "data.train_data": Key(optional(TEXTS), rules.train_data, "", default=None),
    "data.val_data": Key(optional(TEXTS), rules.val_data, ""),
    "environment.env_class": Key(TEXT, rules.environment, "1 for a right answer, else 0", default="gsm8k"),
    "environment.max_env_workers": Key(integer(0), rules.workers, "threads that grade"),
    "environment.skyrl_gym": beside(TABLE, "environment.env_class", "")}

_MODEL: Table = {
    "trainer.policy.model.path": Key(optional(TEXT), rules.model, "", default=None),
    "trainer.policy.model.type": unused(TEXT, "config.json of the model says what it is"),
    "trainer.policy.model.lora.rank": Key(integer(0), "lora.rank", "0: all weights are trained", default=0),
    "trainer.policy.model.lora.alpha": Key(number(0), rules.adapters("lora.alpha"), "", default=16.0),
    "trainer.policy.model.lora.dropout": Key(
        number(0, 0.99), rules.adapters("lora.dropout"), "", default=0.0),
    "trainer.policy.model.lora.target_modules": Key(
        optional(TEXTS), rules.adapters("lora.targets"), "", default=("all-linear",)),
    "trainer.policy.model.lora.exclude_modules": unused(only(
        None, because="takes layers away from target_modules, which cannot be done here",
        mend="name those that shall have adapters by target_modules"), "target_modules names them all"),
    "trainer.policy.model.lora.lora_sync_path": unused(
        TEXT, "servers get adapters by servers.weight_sync_backend"),
    "trainer.policy.model.lora.init_method": unused(one_of("kaiming"), "A is drawn so, and B is 0"),
    "trainer.policy.model_config_kwargs": unused(
        only({}, because="changes the model's config.json", mend="write it there"), "it is empty"),
    "trainer.bf16": Key(FLAG, rules.dtype, "of the weights that are computed with; masters are float32",
                        default=True),
    "trainer.ref.model.path": unused(ANYTHING, "the reference is what the policy starts from"),
    "trainer.ref.model.type": unused(TEXT, "the reference is what the policy starts from"),
    "trainer.critic.model.path": Key(optional(TEXT), rules.critic, ""),
    "trainer.critic.model.lora": unused(TABLE, "the critic is a value head on the policy's trunk"),
    "trainer.reward.model.path": unused(only(None,
                                        because="names a reward model, and rewards come from the task here",
                                        mend="take a task that grades"), "the task grades")}

_NMOE = "trainer.policy.nmoe_config"
_EXPERTS: Table = {
    f"{_NMOE}.model_type": unused(TEXT, "config.json of the model says what it is"),
    f"{_NMOE}.rdep.mode": Key(one_of("single", "ipc", "hybrid", "auto"), "mesh.dispatch",
                              "how tokens travel to experts on other devices"),
    f"{_NMOE}.rdep.profile": Key(one_of("bf16", "fp8", "nvfp4"), rules.profile, ""),
    f"{_NMOE}.rdep.capacity": unused(integer(1), "nothing is dropped, and no buffer has to be sized: "
                                     "mesh.transport"),
    f"{_NMOE}.router_aux_loss_coef": Key(number(0), "moe.aux_loss_coef", "balances the experts' load"),
    f"{_NMOE}.router_bias_update_rate": Key(number(0), "moe.bias_rate", "needs a model whose routers have a "
                                            "selection bias"),
    f"{_NMOE}.training.gradient_checkpointing": unused(FLAG, "trainer.gradient_checkpointing says it"),
    f"{_NMOE}.training.use_torch_compile": unused(FLAG, _COMPILED),
    f"{_NMOE}.training.expert_lr_multiplier": unused(
        only(1, 1.0, because="gives experts a learning rate of their own, which cannot be done here",
        mend="give 1.0"), "one learning rate")}

_DEVICES: Table = {
    "trainer.strategy": unused(one_of("fsdp2", "fsdp", "megatron", "deepspeed"), _AUTO),
    "trainer.placement.colocate_all": Key(FLAG, devices.engines, "", default=True),
    "trainer.placement.policy_num_gpus_per_node": Key(
        integer(1), devices.mesh, "experts over all of them where nmoe's experts are split, else weights",
        default=4),
    "trainer.placement.policy_num_nodes": beside(
        integer(1), "trainer.placement.policy_num_gpus_per_node", "", default=1),
    "trainer.policy.sequence_parallel_size": beside(
        integer(1), "trainer.placement.policy_num_gpus_per_node", "", default=1),
    "trainer.policy.megatron_config.tensor_model_parallel_size": beside(
        integer(1), "trainer.placement.policy_num_gpus_per_node", "", default=1),
    "trainer.policy.megatron_config.context_parallel_size": beside(
        integer(1), "trainer.placement.policy_num_gpus_per_node", "", default=1),
    "trainer.policy.megatron_config.expert_model_parallel_size": beside(
        integer(1), "trainer.placement.policy_num_gpus_per_node", "", default=1),
    "trainer.policy.megatron_config.pipeline_model_parallel_size": Key(integer(1), "mesh.pipeline", ""),
    "trainer.policy.fsdp_config.cpu_offload": Key(FLAG, devices.offload, "in the host's memory between uses"),
    "trainer.policy.fsdp_config.reshard_after_forward": unused(ANYTHING, _AUTO),
    "trainer.policy.fsdp_config.fsdp_size": unused(only(
        -1, because="replicates shards, which --config.mesh.data and mesh.fsdp say", mend="give -1"), _AUTO),
    "trainer.ref.fsdp_config.cpu_offload": Key(
        FLAG, devices.reference_offload, "in the host's memory between uses"),
    "trainer.ref.fsdp_config.reshard_after_forward": unused(ANYTHING, _AUTO),
    "trainer.ref.fsdp_config.fsdp_size": unused(ANYTHING, _PLACED),
    "trainer.ref.sequence_parallel_size": unused(integer(1), _PLACED),
    "trainer.critic.fsdp_config": unused(TABLE, _PLACED),
    "trainer.critic.sequence_parallel_size": unused(integer(1), _PLACED),
    "trainer.sequence_parallel_backend": unused(TEXT, "mesh.context splits attention in its own way"),
    "trainer.policy.use_torch_compile": unused(FLAG, _COMPILED),
    "trainer.policy.record_memory": unused(FLAG, "scripts/plan.py says what takes memory"),
    "trainer.flash_attn": unused(FLAG, "model.attention = auto takes what suits the device"),
    "trainer.gradient_checkpointing": Key(FLAG, devices.remat, "", default=True),
    "trainer.gradient_checkpointing_use_reentrant": unused(FLAG, _COMPILED),
    "trainer.disable_fast_tokenizer": unused(only(False, because="asks for a slow tokenizer",
                                             mend="give false"), "the model's own tokenizer"),
    "trainer.rope_theta": unused(only(None, because="changes the model's config.json", mend="write it there"),
                                 "config.json says it"),
    "trainer.rope_scaling": unused(only(None, because="changes the model's config.json",
                                   mend="write it there"), "config.json says it"),
    **{f"trainer.placement.{name}": unused(ANYTHING, _PLACED) for name in (
        "colocate_policy_ref", "colocate_critic_reward", "critic_num_nodes", "critic_num_gpus_per_node",
        "ref_num_nodes", "ref_num_gpus_per_node", "reward_num_nodes", "reward_num_gpus_per_node")}}

_OPTIMIZER = "trainer.policy.optimizer_config"
_CRITIC = "trainer.critic.optimizer_config"
_UPDATES: Table = {
    "trainer.train_batch_size": Key(integer(1), "rollout.prompts_per_step", "prompts", default=1024),
    "trainer.policy_mini_batch_size": Key(integer(1), rules.minibatches, "train_batch_size / mini batch",
                                          default=256),
    "trainer.critic_mini_batch_size": unused(integer(1), "the critic is updated with the policy"),
    "trainer.micro_train_batch_size_per_gpu": Key(
        integer(1), rules.micro_batch, "sequences of the longest prompt and completion, on each device",
        default=1),
    "trainer.micro_forward_batch_size_per_gpu": unused(integer(1), "as the micro-batches of the update"),
    "trainer.update_epochs_per_batch": Key(integer(1), "algorithm.epochs", "", default=1),
    "trainer.use_sample_packing": Key(FLAG, "train.pack", ""),
    "trainer.epochs": Key(integer(1), rules.steps, "epochs x (rows // train_batch_size)", default=1),
    "trainer.update_ref_every_epoch": unused(only(False, because="moves the reference, which stays what the "
                                             "run starts from", mend="give false"), "it stays"),
    f"{_OPTIMIZER}.lr": Key(number(0), "optimizer.learning_rate", "", default=1e-6),
    f"{_OPTIMIZER}.adam_betas": Key(NUMBERS, rules.betas, "", default=(0.9, 0.999)),
    f"{_OPTIMIZER}.weight_decay": Key(number(0), "optimizer.weight_decay", "", default=0.01),
    f"{_OPTIMIZER}.max_grad_norm": Key(number(0), "optimizer.clip_norm", "", default=1.0),
    f"{_OPTIMIZER}.num_warmup_steps": Key(integer(0), "optimizer.warmup_steps", "", default=0),
    f"{_OPTIMIZER}.scheduler": Key(TEXT, rules.schedule, "", default="constant_with_warmup"),
    f"{_OPTIMIZER}.offload_after_step": unused(
        FLAG, "the moments stay on the devices unless fsdp_config.cpu_offload moves them"),
    f"{_CRITIC}.lr": Key(number(0), algorithm.critic("critic.learning_rate"), "", default=5e-6),
    **{f"{_CRITIC}.{name}": unused(ANYTHING, "the critic is updated with the policy, and has a learning rate "
                                   "of its own alone")
       for name in ("adam_betas", "weight_decay", "max_grad_norm", "num_warmup_steps", "scheduler",
                    "offload_after_step")}}

_RUN: Table = {
    "trainer.seed": Key(integer(0), "seed", "", default=42),
    "trainer.ckpt_path": Key(TEXT, "run_dir", "logs, checkpoints and exports", default="runs/skyrl"),
    "trainer.export_path": unused(TEXT, _EXPORTS),
    "trainer.hf_save_interval": unused(integer(-1), _EXPORTS),
    "trainer.ckpt_interval": Key(integer(-1), rules.interval("checkpoint.every"), "", default=10),
    "trainer.max_ckpts_to_keep": Key(integer(-1), rules.kept, ""),
    "trainer.resume_mode": Key(one_of("latest", "none", None), rules.resume, "", default="latest"),
    "trainer.resume_path": unused(only(None, because="names a checkpoint elsewhere", mend="give run_dir its "
                                  "folder, and --config.checkpoint.resume_step a step"),
                                  "run_dir has the checkpoints"),
    "trainer.eval_interval": Key(integer(-1), rules.evaluations, ""),
    "trainer.eval_before_train": Key(FLAG, rules.with_held_out("eval.at_start"), ""),
    "trainer.eval_batch_size": unused(integer(1), "the engine takes as many prompts as it has slots for"),
    "trainer.max_prompt_length": Key(integer(1), "data.max_prompt_tokens", "", default=512),
    "trainer.project_name": beside(TEXT, "trainer.logger", "", default="skyrl"),
    "trainer.run_name": unused(ANYTHING, _NAMES),
    "trainer.logger": Key(TEXTS, rules.logger, "", default=("wandb",)),
    "trainer.logging_steps": unused(integer(1), "every step is logged"),
    "trainer.dump_data_batch": unused(FLAG, "trajectories.jsonl has every completion"),
    "trainer.dump_eval_results": unused(FLAG, "trajectories.jsonl has every completion"),
    "trainer.fully_async.max_staleness_steps": Key(integer(0), "rollout.max_staleness", ""),
    "trainer.fully_async.num_parallel_generation_workers": unused(
        integer(1), "rollout.slots bounds what is drawn at once")}

_SAMPLING = "generator.sampling_params"
_EVAL = "generator.eval_sampling_params"
_GENERATOR: Table = {
    "generator.n_samples_per_prompt": Key(integer(1), "rollout.group_size", "", default=5),
    f"{_SAMPLING}.max_generate_length": Key(integer(1), "rollout.max_tokens", "", default=1024),
    f"{_SAMPLING}.temperature": Key(number(1e-6), "rollout.temperature", "", default=1.0),
    f"{_SAMPLING}.top_p": Key(number(1e-6, 1), "rollout.top_p", "", default=1.0),
    f"{_SAMPLING}.top_k": Key(integer(1, also=(-1, 0)), rules.top_k, "-1: all tokens", default=-1),
    f"{_SAMPLING}.min_p": Key(number(0, 0.999999), "rollout.min_p", "", default=0.0),
    f"{_SAMPLING}.stop": Key(optional(TEXTS), rules.stop, ""),
    f"{_SAMPLING}.logprobs": unused(ANYTHING, "the engine always tells them"),
    f"{_EVAL}.temperature": Key(number(0), rules.eval_temperature, ""),
    f"{_EVAL}.max_generate_length": Key(
        integer(1), rules.as_in_training(f"{_SAMPLING}.max_generate_length"), ""),
    f"{_EVAL}.top_p": Key(number(0, 1), rules.as_in_training(f"{_SAMPLING}.top_p"), ""),
    f"{_EVAL}.top_k": Key(integer(-1), rules.as_in_training(f"{_SAMPLING}.top_k"), ""),
    f"{_EVAL}.min_p": Key(number(0, 1), rules.as_in_training(f"{_SAMPLING}.min_p"), ""),
    "generator.eval_n_samples_per_prompt": Key(integer(1), rules.with_held_out("eval.samples"), ""),
    "generator.max_turns": Key(integer(1), rules.turns, ""),
    "generator.max_input_length": Key(ANYTHING, rules.as_prompt, ""),
    "generator.use_conversation_multi_turn": unused(
        FLAG, "turns are messages: episodes.history says what one sees"),
    "generator.zero_reward_on_non_stop": unused(
        only(False, because="takes the reward from truncated completions",
        mend="give false, and say --config.algorithm.truncated=mask or penalise"),
        "truncated completions keep their reward"),
    "generator.backend": beside(
        one_of("vllm", "sglang"), "trainer.placement.colocate_all", "", default="vllm"),
    "generator.weight_sync_backend": Key(
        one_of("nccl", "gloo", "auto", "checkpoint_engine"), devices.weight_sync, ""),
    "generator.num_inference_engines": beside(integer(1), "trainer.placement.colocate_all", "", default=1),
    "generator.inference_engine_tensor_parallel_size": beside(
        integer(1), "trainer.placement.colocate_all", "", default=4),
    "generator.run_engines_locally": beside(FLAG, "trainer.placement.colocate_all", "", default=True),
    "generator.remote_inference_engine_urls": beside(TEXTS, "trainer.placement.colocate_all", ""),
    "generator.gpu_memory_utilization": Key(number(0.01, 1), devices.memory, ""),
    "generator.max_num_seqs": Key(integer(1), devices.slots, "sequences at once"),
    "generator.model_dtype": unused(TEXT, "the engine draws with the trainer's weights, as they are"),
    **{f"generator.{name}": unused(ANYTHING, _ENGINE) for name in (
        "async_engine", "batched", "batched_multi_turn", "vllm_v1_disable_multiproc", "enable_prefix_caching",
        "enable_chunked_prefill", "chunked_prefill_size", "max_num_batched_tokens", "enforce_eager",
        "override_existing_update_group", "weight_transfer_threshold_cuda_ipc_GB",
        "use_overlapped_weight_sync", "fully_sharded_loras", "kv_cache_dtype",
        "inference_engine_pipeline_parallel_size", "inference_engine_data_parallel_size",
        "inference_engine_expert_parallel_size")},
    "generator.engine_init_kwargs": unused(TABLE, _ENGINE),
    "generator.model_name": unused(ANYTHING, "the policy, whatever it is called"),
    "generator.chat_template": unused(TABLE, "the tokenizer's own chat template"),
    "generator.chat_template_kwargs": unused(only({}, because="changes how prompts are rendered",
                                             mend="leave it out, and see docs/rows.md for variables of rows"),
                                             "it is empty"),
    "generator.enable_http_endpoint": Key(FLAG, "endpoint.serve", "an OpenAI endpoint of the policy"),
    "generator.http_endpoint_host": Key(TEXT, rules.endpoint("endpoint.host"), ""),
    "generator.http_endpoint_port": Key(integer(0), rules.endpoint("endpoint.port"), "")}

KEYS: Table = {**_DATA, **_MODEL, **_EXPERTS, **_DEVICES, **_UPDATES, **_RUN, **_GENERATOR, **algorithm.KEYS}
