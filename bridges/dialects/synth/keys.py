"""synth-ai's TOML for RL with task apps, section by section.

synth-ai starts vLLM on some GPUs and a trainer on others, in its cloud; here one process trains and draws,
and the task app's calls reach it at its endpoint. What synth-ai's documents do not say has our own default.
"""
from bridges.dialects.kinds import (
    ANYTHING,
    FLAG,
    INTEGERS,
    TABLE,
    TEXT,
    TEXTS,
    integer,
    number,
    one_of,
    only,
)
from bridges.dialects.rows import Key, Table, beside, unused
from bridges.dialects.synth import rules

_SHARED = ("one process trains and draws here: nothing is split off for servers; "
           "--config.rollout_mesh.data=1 gives the rollout a device of its own")
_EVERY_STEP = "every step is logged"
_AT_ONCE = "the engine draws with the trainer's own weights: nothing is sent, after no step"
_SERVER = "the judge's own server decides it: scripts/serve.py judge"

ALIASES = {
    "policy.model_name": "model.base", "policy.source": "model.source",
    "policy.trainer_mode": "model.trainer_mode", "policy.label": "model.label",
    "policy.max_tokens": "rollout.policy_config.max_tokens",
    "policy.temperature": "rollout.policy_config.temperature",
    "policy.top_p": "rollout.policy_config.top_p",
    "training.lora.r": "lora.r", "training.lora.alpha": "lora.alpha",
    "training.lora.dropout": "lora.dropout", "training.lora.target_modules": "lora.target_modules",
    "compute.topology.type": "topology.type", "compute.topology.gpus_for_vllm": "topology.gpus_for_vllm",
    "compute.topology.gpus_for_training": "topology.gpus_for_training",
    "compute.topology.gpus_for_ref": "topology.gpus_for_ref",
    "compute.topology.tensor_parallel": "topology.tensor_parallel",
    "compute.topology.reference_placement": "reference.placement",
    "training.rewards.step_rewards_enabled": "training.step_rewards_enabled",
    "training.rewards.step_rewards_mode": "training.step_rewards_mode",
    "training.rewards.step_rewards_indicator_lambda": "training.step_rewards_indicator_lambda",
    "training.rewards.step_rewards_beta": "training.step_rewards_beta",
    "training.rewards.step_rewards_strategy": "training.step_rewards_strategy",
    "training.rewards.event_rewards_kind": "training.event_rewards_kind",
    "judge.enabled": "rubric.enabled", "judge.reward_blend.env": "rubric.weights.env",
    "judge.reward_blend.event": "rubric.weights.event",
    "judge.reward_blend.outcome": "rubric.weights.outcome", "judge.timeout_s": "judge.options.timeout_s"}

_ALGORITHM: Table = {
    "algorithm.type": unused(only("online", because="is not learnt from here",
                             mend="give online; for conversations there is scripts/sft.py"),
                             "all runs of train.py are online"),
    "algorithm.method": unused(one_of("policy_gradient", "gspo", "grpo"), "variety says the loss"),
    "algorithm.variety": Key(one_of("gspo", "grpo"), rules.algorithm, "", default="gspo")}

_SERVICES: Table = {
    "services.task_url": Key(TEXT, rules.task_app, "the task app, which plays the episodes at the run's "
                             "endpoint; its key is that of ENVIRONMENT_API_KEY", default=""),
    "services.judge_url": beside(TEXT, "services.task_url", ""),  # without one the task app judges
    "judge.api_key_env": Key(TEXT, rules.asked_judge, ""),
    "rollout.env_name": beside(TEXT, "services.task_url", "environment of the task app"),
    "rollout.policy_name": beside(TEXT, "services.task_url", "policy of the task app"),
    "rollout.max_turns": beside(integer(1), "services.task_url", "turns of an episode"),
    "rollout.max_concurrent_rollouts": beside(integer(1), "services.task_url", "rollouts out at a time"),
    "judge.options.provider": Key(TEXT, rules.asked_judge, ""),
    "judge.options.rubric_id": Key(TEXT, rules.asked_judge, "")}

_MODEL: Table = {
    "model.base": Key(TEXT, rules.model, "hub name or folder"),
    "model.source": Key(TEXT, rules.model, "hub name or folder"),
    "model.trainer_mode": Key(one_of("lora", "full", "qlora"), rules.trainer_mode, "", default="lora"),
    "model.label": Key(TEXT, rules.label, "logs, checkpoints and exports go there"),
    "policy.provider": unused(TEXT, "the run itself serves the policy"),
    "lora.r": Key(integer(1), rules.adapters("lora.r", "lora.rank"), "", default=16),
    "lora.alpha": Key(number(0), rules.adapters("lora.alpha", "lora.alpha"), "", default=32.0),
    "lora.dropout": Key(number(0, 0.99), rules.adapters("lora.dropout", "lora.dropout"), "its noise moves "
                        "the importance ratios, and GSPO's range is narrow: watch policy/clip_fraction",
                        default=0.0),
    "lora.target_modules": Key(TEXTS, rules.adapters("lora.target_modules", "lora.targets"),
                               "all-linear: attention, MLPs and experts", default=("all-linear",))}

_ROLLOUT: Table = {
    "rollout.episodes_per_batch": Key(integer(1), rules.episodes, "episodes_per_batch x batches_per_step "
                                      "episodes a step are prompts_per_step tasks x group_size"),
    "rollout.batches_per_step": beside(integer(1), "rollout.episodes_per_batch", "", default=1),
    "training.group_size": beside(integer(2), "rollout.episodes_per_batch", "", default=4),
    "rollout.ops": unused(TEXTS, "the task app lets policy and environment take turns as it does"),
    "rollout.rubric_rewards_only": unused(FLAG, "the weights of [rubric] or [judge] say what counts"),
    "rollout.task_app_origin_rewards_only": unused(
        FLAG, "without weights in [rubric] or [judge] the task app's reward is all that counts"),
    "rollout.env_config": Key(TABLE, rules.nothing_to_send, ""),
    "rollout.policy_config.max_tokens": beside(integer(1), "vllm.max_model_len", ""),
    "rollout.policy_config.temperature": Key(number(1e-6), "rollout.temperature",
                                             "log-probs are those of this temperature"),
    "rollout.policy_config.top_p": Key(number(1e-6, 1), "rollout.top_p", ""),
    "rollout.policy_config.model": unused(TEXT, "the run's own policy is asked, whatever it is called"),
    "rollout.policy_config.provider": unused(TEXT, "the run itself serves the policy")}

_TRAINING: Table = {
    "training.num_epochs": Key(integer(1), rules.steps, "num_epochs x iterations_per_epoch", default=1),
    "training.iterations_per_epoch": beside(integer(1), "training.num_epochs", "", default=10),
    "training.batch_size": Key(integer(1), rules.micro_batch, "sequences in a micro-batch, each of up to "
                               "max_model_len tokens", default=1),
    "training.gradient_accumulation_steps": Key(
        integer(1), rules.accumulation, "an update takes batch_size x gradient_accumulation_steps episodes"),
    "training.learning_rate": Key(number(0), "optimizer.learning_rate", "constant"),
    "training.max_turns": Key(integer(1), rules.trained_turns, ""),
    "training.max_accumulated_minibatch": unused(
        integer(1), "micro-batches add up until their update is whole"),
    "training.log_interval": unused(integer(1), _EVERY_STEP),
    "training.weight_sync_interval": unused(only(1, because="leaves the sampler behind the trainer, and here "
                                            "both have the same weights", mend="give 1"), _AT_ONCE),
    "training.weight_sync": unused(TABLE, _AT_ONCE),
    "training.async_semaphore_max": unused(integer(1), "rollout.max_concurrent_rollouts bounds what is out"),
    "training.step_rewards_enabled": Key(FLAG, rules.step_rewards, "a turn earns step_lambda if it unlocks "
                                         "an achievement, undiscounted"),
    "training.step_rewards_mode": beside(one_of("off", "decision_stepwise"), "training.step_rewards_enabled",
                                         "", default="decision_stepwise"),
    "training.step_rewards_indicator_lambda": beside(
        number(0), "training.step_rewards_enabled", "", default=1.0),
    "training.step_rewards_beta": unused(only(0, 0.0,
                                         because="weighs turns by their time, which is not done here",
                                         mend="give 0"), "no such weight"),
    "training.step_rewards_strategy": unused(only(
        "consistent", because="counts several achievements of one turn, and here a turn unlocks one or none",
        mend="give consistent"), "a turn unlocks an achievement or does not"),
    "training.event_rewards_kind": unused(only(
        "unique", because="pays an achievement again, and here each counts once an episode",
        mend="give unique"), "each achievement counts once an episode")}

_EVALUATION: Table = {
    "evaluation.seeds": Key(INTEGERS, rules.evaluation_seeds, "held out of data.seeds"),
    "evaluation.instances": Key(integer(1), rules.instances, "the first of the seeds"),
    "evaluation.every_n_iters": Key(integer(1), rules.every, "")}

_MACHINE: Table = {
    "vllm.max_model_len": Key(integer(16), rules.context, "an eighth of max_model_len for the first prompt, "
                              "the rest for all turns of an episode", default=4096),
    "vllm.tensor_parallel_size": unused(integer(1), _SHARED),
    "vllm.gpu_memory_utilization": unused(number(0, 1), "see --config.rollout.memory_fraction, of what is "
                                          "free beside the weights"),
    "topology.type": unused(only("single_node_split", because="is no way that GPUs are shared out here",
                                 mend="give single_node_split"), _SHARED),
    "topology.gpus_for_vllm": unused(integer(0), _SHARED),
    "topology.gpus_for_training": Key(integer(1), rules.training_gpus,
                                      "weights and optimiser state split over them"),
    "topology.gpus_for_ref": unused(integer(0), "the reference is the policy without its adapters: no GPU"),
    "topology.tensor_parallel": unused(integer(1), _SHARED),
    "compute.gpu_type": unused(TEXT, "the devices of this machine are used; scripts/plan.py --chip plans for "
                               "others"),
    "compute.gpu_count": unused(integer(1), _SHARED),
    "compute.nodes": unused(only(1, because="is started otherwise here", mend="give 1, and start the same "
                            "command on each host: scripts/launch"), "one host"),
    "reference.placement": unused(TEXT,
                                  "the reference is the policy without its adapters: it is placed nowhere")}

_JUDGE: Table = {
    "rubric.enabled": unused(FLAG,
                             "the weights beside it say what counts; without any, the task app's reward"),
    "rubric.weights.env": Key(number(), rules.blend, "of the task app's reward, of event and of outcome"),
    "rubric.weights.event": beside(number(), "rubric.weights.env", "", default=0.0),
    "rubric.weights.outcome": beside(number(), "rubric.weights.env", "", default=0.0),
    "rubric.model": unused(TEXT, _SERVER),
    "judge.type": unused(TEXT, _SERVER),
    "judge.options.event": Key(FLAG, rules.asked_judge, ""),
    "judge.options.outcome": unused(only(True,
                                    because="asks for no judgement of the whole, which every judge gives",
                                    mend="give true"), "a judge always judges the whole"),
    "judge.options.model": Key(TEXT, rules.asked_judge, ""),
    "judge.options.tracks": unused(TEXTS, _SERVER),
    "judge.options.weights": unused(TABLE, _SERVER + ": weights are those of its rubric's criteria"),
    "judge.options.rubric_overrides": unused(TABLE, _SERVER + " --rubrics"),
    "judge.options.max_concurrency": unused(integer(1), _SERVER),
    "judge.options.timeout_s": Key(number(1e-3), rules.asked_judge, ""),
    "tags": unused(ANYTHING, "nothing reads them"),
    "smoke": unused(ANYTHING, "of synth-ai's own smoke test")}

KEYS: Table = {
    **_ALGORITHM, **_SERVICES, **_MODEL, **_ROLLOUT, **_TRAINING, **_EVALUATION, **_MACHINE, **_JUDGE}
