"""SkyRL's YAML and overrides: the commands of its users' documents come out."""
import json

import pytest

from bridges.dialects import READ, recipe
from bridges.dialects.skyrl.keys import ALIASES, KEYS
from jaxrl_moe import recipes
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import known_keys, resolve
from jaxrl_moe.types import UserError
from tests.helpers import seed_texts
from tests.helpers.settings import refuse_settings

SERVED = ("trainer.placement.colocate_all=false", "generator.backend=sglang")


def translated(*words):
    return READ["skyrl"](words)


def test_the_users_own_commands_give_what_they_name():
    made = translated(*seed_texts.NMOE_COMMAND, *seed_texts.NMOE_SMALLER_BATCHES, *seed_texts.NMOE_OFFLOAD,
                      *seed_texts.NMOE_SYNC, *seed_texts.NMOE_BALANCE)
    expected = {
        "model.path": "/path/to/nmoe/checkpoint", "data.path": "path/to/train_data.parquet",
        "rollout.prompts_per_step": 64, "algorithm.minibatches": 8,
        "train.offload": ("optimizer", "reference"),
        "moe.aux_loss_coef": 0.01, "algorithm.advantage": "grpo", "rollout.backend": "jax",
        "train.tokens_per_micro_batch": 4 * (512 + 1024), "logging.wandb_project": "skyrl"}
    assert {key: made.values()[key] for key in expected} == expected
    reason = next(each.why for each in made.unused if each.key == "generator.weight_sync_backend")
    assert "nothing is sent anywhere" in reason
    assert list(made.missing) == ["train.steps"]  # the file is not here to be counted


def test_the_table_of_key_settings_is_known_and_spreads_experts_over_all_gpus(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(seed_texts.NMOE_KEY_SETTINGS)
    made = translated(str(path), *seed_texts.NMOE_COMMAND, "trainer.placement.policy_num_gpus_per_node=8")
    expected = {"mesh.expert": 8, "mesh.fsdp": 1, "mesh.dispatch": "auto", "algorithm.advantage": "grpo"}
    assert {key: made.values()[key] for key in expected} == expected
    assert {each.key for each in made.unused} == {"trainer.strategy", "trainer.policy.model.type"}


@pytest.mark.parametrize("name", ["config", "config.yaml"])
def test_the_file_may_be_named_as_hydra_has_it(name, tmp_path):
    (tmp_path / "config.yaml").write_text(seed_texts.NMOE_KEY_SETTINGS)
    words = ("--config-path", str(tmp_path), f"--config-name={name}", *seed_texts.NMOE_COMMAND)
    assert translated(*words).values()["mesh.dispatch"] == "auto"
    with pytest.raises(UserError, match="name its file by --config-name"):
        translated(*words[:2])


CASES = [
    (("trainer.algorithm.advantage_estimator=rloo",), {"algorithm.advantage": "rloo"}),
    (("trainer.algorithm.advantage_estimator=reinforce++", "trainer.algorithm.gamma=0.99"),
     {"algorithm.advantage": "reinforce_pp", "algorithm.gamma": 0.99}),
    (("trainer.algorithm.advantage_estimator=gae", "trainer.algorithm.lambd=0.95",
      "trainer.algorithm.value_clip=0.3", "trainer.critic.optimizer_config.lr=1e-5"),
     {"algorithm.advantage": "gae", "algorithm.lam": 0.95, "critic.clip": 0.3, "critic.learning_rate": 1e-5}),
    (("trainer.algorithm.grpo_norm_by_std=false",), {"algorithm.advantage": "dr_grpo"}),
    (("trainer.algorithm.grpo_norm_by_std=false", "trainer.algorithm.advantage_batch_normalize=true"),
     {"algorithm.advantage": "reinforce_pp_baseline"}),
    (("trainer.algorithm.policy_loss_type=dual_clip", "trainer.algorithm.clip_ratio_c=10"),
     {"algorithm.loss": "dual_clip(dual_clip=10)", "algorithm.clip_low": 0.2}),
    (("trainer.algorithm.policy_loss_type=gspo", "trainer.algorithm.eps_clip_low=3e-4",
      "trainer.algorithm.eps_clip_high=4e-4"),
     {"algorithm.loss": "gspo", "algorithm.aggregation": "seq-mean-token-mean", "algorithm.clip_low": 3e-4,
      "algorithm.clip_high": 4e-4}),
    (("trainer.algorithm.policy_loss_type=cispo",), {"algorithm.loss": "cispo(ratio_low=1, ratio_high=6)"}),
    (("trainer.algorithm.policy_loss_type=sapo", "trainer.algorithm.sapo.tau_neg=2"),
     {"algorithm.loss": "sapo(tau_positive=1, tau_negative=2)"}),
    (("trainer.algorithm.loss_reduction=seq_mean_token_sum_norm",),
     {"algorithm.aggregation": "seq-mean-token-sum-norm"}),
    (("trainer.algorithm.use_kl_loss=false",), {"algorithm.kl_coef": 0.0}),
    (("trainer.algorithm.use_kl_loss=false", "trainer.algorithm.use_kl_in_reward=true",
      "trainer.algorithm.kl_estimator_type=k1", "trainer.algorithm.kl_ctrl.type=adaptive",
      "trainer.algorithm.kl_ctrl.kl_target=0.05"),
     {"algorithm.kl_in": "reward", "algorithm.kl_coef": 0.001, "algorithm.kl_estimator": "k1",
      "algorithm.kl_target": 0.05}),
    (("trainer.algorithm.use_kl_loss=false", "trainer.algorithm.use_kl_in_reward=true",
      "trainer.algorithm.init_kl_coef=0.02", "trainer.algorithm.kl_target=null"),
     {"algorithm.kl_coef": 0.02}),
    (("trainer.algorithm.use_entropy_loss=true", "trainer.algorithm.entropy_loss_coef=0.02"),
     {"algorithm.entropy_coef": 0.02}),
    (("trainer.algorithm.use_tis=true", "trainer.algorithm.tis_imp_ratio_cap=2.0"),
     {"algorithm.corrections": ("tis(cap=2)",)}),
    (("trainer.algorithm.dynamic_sampling.type=filter",
      "trainer.algorithm.dynamic_sampling.max_sample_batches=5"),
     {"rollout.dynamic_sampling": True, "rollout.max_rounds": 5}),
    (("trainer.train_batch_size=128", "trainer.policy_mini_batch_size=16", "generator.n=4",
      "trainer.max_prompt_length=1024", "trainer.max_response_length=2048",
      "trainer.placement.policy_num_gpus_per_node=8"),
     {"rollout.prompts_per_step": 128, "algorithm.minibatches": 8, "rollout.group_size": 4,
      "data.max_prompt_tokens": 1024, "rollout.max_tokens": 2048, "train.tokens_per_micro_batch": 8 * 3072}),
    (("trainer.policy.model.lora.rank=32", "trainer.policy.model.lora.alpha=16",
      "trainer.policy.fsdp_config.cpu_offload=true"),
     {"lora.rank": 32, "lora.alpha": 16.0, "lora.targets": ("all-linear",), "train.offload": ("optimizer",)}),
    (("trainer.policy.sequence_parallel_size=2", "trainer.placement.policy_num_gpus_per_node=8"),
     {"mesh.context": 2, "mesh.fsdp": 4, "mesh.expert": 1}),
    (("trainer.policy.nmoe_config.rdep.mode=single",), {"mesh.dispatch": "single", "mesh.expert": 1}),
    (("data.val_data=[v.parquet]", "trainer.eval_interval=5",
      "generator.eval_sampling_params.temperature=0.0"),
     {"data.eval_path": "v.parquet", "eval.every": 5, "eval.greedy": True}),
    (("trainer.ckpt_interval=-1", "trainer.max_ckpts_to_keep=-1", "trainer.resume_mode=null"),
     {"checkpoint.every": 0, "checkpoint.keep": 10**6, "checkpoint.resume": False}),
    (("trainer.policy.optimizer_config.scheduler=cosine_with_warmup",
      "trainer.policy.optimizer_config.num_warmup_steps=100",
      "trainer.policy.optimizer_config.adam_betas=[0.9,0.98]"),
     {"optimizer.schedule": "cosine", "optimizer.warmup_steps": 100, "optimizer.b2": 0.98}),
    ((*SERVED, "generator.weight_sync_backend=nccl", "generator.num_inference_engines=2",
      "generator.inference_engine_tensor_parallel_size=1", "generator.gpu_memory_utilization=0.8"),
     {"rollout.backend": "sglang", "servers.gpus": "4;5", "servers.weight_sync_backend": "distributed",
      "servers.flags": "--tp-size 1 --mem-fraction-static 0.8"}),
    ((*SERVED, "generator.run_engines_locally=false", "generator.remote_inference_engine_urls=[h:1,h:2]"),
     {"servers.urls": ("http://h:1", "http://h:2")}),
    (("trainer.logger=[console,tensorboard]",), {"logging.tensorboard": True}),
    (("trainer.logger=wandb", "trainer.project_name=mine"), {"logging.wandb_project": "mine"})]


@pytest.mark.parametrize("words, expected", CASES, ids=lambda case: case[-1] if isinstance(case,
                                                                                           tuple) else "")
def test_overrides_become_settings(words, expected):
    values = translated(*seed_texts.NMOE_COMMAND, *words).values()
    assert {key: values.get(key) for key in expected} == expected
    assert values.keys() <= known_keys().keys()


REFUSED = [
    ("trainer.train_batch_sze=64", "Did you mean 'trainer.train_batch_size'"),
    ("trainer.policy.nmoe_config.rdep.moed=auto", "Did you mean 'trainer.policy.nmoe_config.rdep.mode'"),
    ("trainer.train_batch_size=many", "is of type str, and a whole number"),
    ("trainer.policy_mini_batch_size=100", "does not divide trainer.train_batch_size = 1024"),
    ("trainer.policy.nmoe_config.rdep.profile=fp8", "quantises the experts"),
    ("trainer.policy.nmoe_config.rdep.profile=nvfp4", "quantises the experts"),
    ("trainer.algorithm.advantage_estimator=grop", "Did you mean 'grpo'"),
    ("trainer.algorithm.use_kl_in_reward=true", "charge the KL twice"),
    ("trainer.algorithm.kl_target=0.1", "is of an older SkyRL"),
    ("trainer.algorithm.use_kl_loss=false trainer.algorithm.use_kl_in_reward=true "
     "trainer.algorithm.kl_ctrl.type=adaptive trainer.algorithm.kl_ctrl.kl_target=null", "a target above 0"),
    ("trainer.algorithm.advantage_batch_normalize=true", "normalises advantages twice"),
    ("trainer.algorithm.eps_clip_low=0.0", "is out of range"),
    ("data.train_data=[a.parquet,b.parquet]", "put their rows into one file"),
    ("trainer.policy.sequence_parallel_size=3", "do not divide"),
    ("trainer.critic.model.path=other", "is another model than the policy"),
    ("trainer.resume_mode=from_path", "is not known here"),
    ("generator.max_turns=3", "makes several turns"),
    ("generator.zero_reward_on_non_stop=true", "takes the reward from truncated"),
    ("trainer.logger=mlflow", "names mlflow"),
    ("trainer.policy.optimizer_config.lr=inf", "is out of range"),
    ("trainer.mini_batch_size=8 trainer.policy_mini_batch_size=16", "says again what"),
    ("~trainer.seed", "takes away what"), ("trainer.train_batch_size=1,2", "is a run each")]


@pytest.mark.parametrize("words, message", REFUSED)
def test_what_cannot_be_is_refused(words, message):
    with pytest.raises(UserError) as refused:
        translated(*seed_texts.NMOE_COMMAND, *words.split())
    assert message in " ".join(str(refused.value).split())


def test_a_files_keys_are_overridden_added_and_taken_away(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("trainer:\n  seed: 1\n  epochs: 2\n  policy:\n    model:\n      path: ???\n")
    made = translated(str(path), "trainer.policy.model.path=m", "~trainer.epochs", "++trainer.seed=3",
                      "+trainer.max_prompt_length=64").values()
    assert (made["seed"], made["model.path"], made["data.max_prompt_tokens"]) == (3, "m", 64)
    with pytest.raises(UserError, match="adds what .* has already"):
        translated(str(path), "trainer.policy.model.path=m", "+trainer.seed=3")
    with pytest.raises(UserError, match="policy.model.path.* is still to be given"):
        translated(str(path))


def test_a_file_over_skyrls_own_bases_is_read_and_over_others_refused(tmp_path):
    path = tmp_path / "config.yaml"
    text = "defaults: [/ppo_base_config, {{{}: x}}, _self_]\ntrainer: {{run_name: 'a-${{now:%Y}}'}}\n"
    path.write_text(text.format("/nmoe_config/nmoe_model@trainer.policy.nmoe_config"))
    assert translated(str(path)).values()["seed"] == 42
    path.write_text(text.format("mine"))
    with pytest.raises(UserError, match="lays it over 'mine'"):
        translated(str(path))


def rows(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}", "reward_spec": {"ground_truth": "1"}}) + "\n"
                            for n in range(10)))
    return f"data.train_data=[{path}]"


def test_epochs_are_counted_in_whole_batches_of_the_file(tmp_path):
    words = ("trainer.policy.model.path=m", rows(tmp_path), "trainer.policy_mini_batch_size=1",
             "trainer.epochs=3")
    assert translated(*words, "trainer.train_batch_size=4").values()["train.steps"] == 3 * 2
    with pytest.raises(UserError, match="has 10 rows, and a batch takes 11 prompts"):
        translated(*words, "trainer.train_batch_size=11")


def test_an_environment_that_is_no_task_here_is_to_be_named_and_a_launched_server_its_python():
    made = translated("environment.env_class=text2sql", *SERVED)
    assert {"env.name", "servers.python", "model.path", "data.path"} <= made.missing.keys()
    assert "text2sql" in str(made.missing["env.name"])


def test_every_alias_leads_to_a_key():
    assert set(ALIASES.values()) <= KEYS.keys() and not ALIASES.keys() & KEYS.keys()


def test_a_printed_recipe_resolves_to_the_same_and_is_not_refused(tmp_path):
    made = translated("trainer.policy.model.path=m", rows(tmp_path), "trainer.train_batch_size=8",
                      "trainer.policy_mini_batch_size=2", "trainer.placement.policy_num_gpus_per_node=1",
                      "trainer.logger=console")
    path = tmp_path / "printed.py"
    path.write_text(recipe(made))
    config = resolve(recipes.settings(str(path)))
    assert config == resolve(made.settings())
    refuse_settings(config, training)
