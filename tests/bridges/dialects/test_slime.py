"""slime's flags: those of its users' documents come out."""
import json

import pytest

from bridges.dialects import READ, recipe
from bridges.dialects.kinds import FLAG, INTEGERS, TEXT, TEXTS, number
from bridges.dialects.slime import flags
from jaxrl_moe import recipes
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import ConfigError, known_keys, resolve
from jaxrl_moe.types import UserError
from tests.helpers import seed_texts
from tests.helpers.settings import refuse_settings

GIVEN = "--hf-checkpoint m --prompt-data d.jsonl --rollout-max-response-len 100 --num-rollout 3"


def translated(text, *words):
    return READ["slime"]([*text.split(), *words])


def test_the_users_own_flags_give_the_numbers_that_they_name():
    made = translated(seed_texts.SLIME_MODEL + seed_texts.SLIME_PARALLELISM + seed_texts.SLIME_TURNS
                      + seed_texts.SLIME_TRAINING + "--save-interval 50 --max-tokens-per-gpu 4096")
    expected = {
        "mesh.tensor": 2, "mesh.pipeline": 1, "mesh.context": 2, "algorithm.turn_gamma": 0.4,
        "algorithm.returns": "trajectory", "optimizer.learning_rate": 1e-6, "algorithm.kl_coef": 0.01,
        "algorithm.kl_estimator": "k3", "algorithm.entropy_coef": 0.001, "algorithm.minibatches": 1,
        "rollout.prompts_per_step": 4, "rollout.group_size": 4, "checkpoint.every": 50, "lora.rank": 0,
        "train.tokens_per_micro_batch": 2 * 4096}
    assert {key: made.values()[key] for key in expected} == expected
    assert made.values()["env.name"] == (
        "triton_kernels(max_turns=3, measure=true, url='http://127.0.0.1:18188')")
    assert "env.name" not in made.missing
    listed = {each.key for each in made.unused}
    assert {f"--{line.split()[0][2:]}" for line in seed_texts.SLIME_MODEL.splitlines()} <= listed
    assert {"--loss-mask-type", "--use-native-chat-template"} <= listed


CASES = [
    ("--eps-clip 0.2 --eps-clip-high 0.28", {"algorithm.clip_low": 0.2, "algorithm.clip_high": 0.28}),
    ("--eps-clip 0.3", {"algorithm.clip_high": 0.3}),
    ("--eps-clip-c 3", {"algorithm.loss": "dual_clip(dual_clip=3)"}),
    ("--advantage-estimator gspo --eps-clip 3e-4", {"algorithm.loss": "gspo", "algorithm.advantage": "grpo"}),
    ("--advantage-estimator cispo --eps-clip-high 4",
     {"algorithm.loss": "cispo(ratio_low=0.8, ratio_high=5)"}),
    ("--advantage-estimator reinforce_plus_plus --gamma 0.9",
     {"algorithm.advantage": "reinforce_pp", "algorithm.gamma": 0.9}),
    ("--advantage-estimator ppo --lambd 0.95 --value-clip=0.1",
     {"algorithm.advantage": "gae", "algorithm.lam": 0.95, "critic.clip": 0.1}),
    ("--disable-grpo-std-normalization --calculate-per-token-loss",
     {"algorithm.advantage": "dr_grpo", "algorithm.aggregation": "token-mean"}),
    ("--use-kl-loss --kl-loss-coef 0.001 --kl-loss-type low_var_kl",
     {"algorithm.kl_coef": 0.001, "algorithm.kl_estimator": "k3", "algorithm.kl_in": "loss"}),
    ("--kl-coef 0.01 --kl-loss-type k1", {"algorithm.kl_in": "reward", "algorithm.kl_estimator": "k1"}),
    ("--use-tis --tis-clip 3 --use-opsm", {"algorithm.corrections": ("tis(cap=3)", "opsm(drift=0.0001)")}),
    ("--use-rollout-routing-replay --moe-aux-loss-coeff 0.01",
     {"moe.replay": "r3", "moe.aux_loss_coef": 0.01}),
    ("--use-rollout-logprobs", {"algorithm.bypass": True}),
    ("--lr-decay-style constant --lr-warmup-iters 10 --weight-decay 0.1 --adam-beta1 0.9 --adam-beta2 0.98",
     {"optimizer.schedule": "constant", "optimizer.warmup_steps": 10, "optimizer.weight_decay": 0.1,
      "optimizer.b1": 0.9, "optimizer.b2": 0.98}),
    ("", {"optimizer.b2": 0.999, "optimizer.weight_decay": 0.01, "optimizer.schedule": "linear",
          "algorithm.clip_low": 0.2, "algorithm.kl_coef": 0.0, "data.shuffle": False}),
    ("--rollout-batch-size 8 --n-samples-per-prompt 4 --global-batch-size 16", {"algorithm.minibatches": 2}),
    ("--num-steps-per-rollout 2", {"algorithm.minibatches": 2}),
    ("--actor-num-nodes 1 --actor-num-gpus-per-node 4 --tensor-model-parallel-size 2",
     {"mesh.fsdp": 2, "train.tokens_per_micro_batch": 2 * (512 + 100)}),
    ("--actor-num-gpus-per-node 8 --expert-model-parallel-size 8", {"mesh.fsdp": 1, "mesh.expert": 8}),
    ("--max-tokens-per-gpu 4096 --use-dynamic-batch-size --micro-batch-size 1",
     {"train.tokens_per_micro_batch": 4096}),
    ("--max-tokens-per-gpu 100", {"train.tokens_per_micro_batch": 612}),
    ("--actor-num-gpus-per-node 4 --rollout-num-gpus 2 --sglang-mem-fraction-static 0.8 --sglang-log-level "
     "error",
     {"rollout.backend": "sglang", "servers.gpus": "4;5",
      "servers.flags": "--tp-size 1 --mem-fraction-static 0.8 --log-level error"}),
    ("--rollout-num-gpus 2 --rollout-num-gpus-per-engine 2 --sglang-disable-cuda-graph --sglang-x='a;b'",
     {"servers.gpus": "1,2", "servers.flags": "--tp-size 2 --disable-cuda-graph --x ''\"'\"'a;b'\"'\"''"}),
    ("--colocate --rollout-num-gpus 2", {"rollout.backend": "jax"}),
    ("--optimizer-cpu-offload --offload-ref --kl-loss-coef 0.01",
     {"train.offload": ("optimizer", "reference")}),
    ("--optimizer-cpu-offload --offload-ref", {"train.offload": ("optimizer",)}),
    ("--recompute-granularity full", {"train.remat": "full"}),
    ("--max-turns 3 --rollout-max-context-len 1000", {"episodes.max_tokens": 488}),
    ("--max-turns 3", {"episodes.max_tokens": 300, "algorithm.turn_gamma": 1.0}),
    ("--rollout-temperature 0.8 --rollout-top-p 0.95 --rollout-top-k 20 --rollout-stop a b",
     {"rollout.temperature": 0.8, "rollout.top_p": 0.95, "rollout.top_k": 20,
      "rollout.stop_strings": ("a", "b")}),
    ("--eval-interval 20 --eval-prompt-data aime a.jsonl --n-samples-per-eval-prompt 16 "
     "--skip-eval-before-train",
     {"eval.every": 20, "data.eval_path": "a.jsonl", "eval.samples": 16, "eval.at_start": False}),
    ("--dynamic-sampling-filter-path "
     "slime.rollout.filter_hub.dynamic_sampling_filters.check_reward_nonzero_std",
     {"rollout.dynamic_sampling": True}),
    ("--rm-type kernelbench --gamma 0.4",
     {"env.name": "triton_kernels(max_turns=1, measure=true, url='http://127.0.0.1:18188')",
      "algorithm.turn_gamma": None, "data.max_prompt_tokens": 4096}),
    ("--rollout-task-type kernelbench_multiturn --max-turns 3 --rm-type x --max-tokens-per-gpu 1",
     {"env.name": "triton_kernels(max_turns=3, measure=true, url='http://127.0.0.1:18188')",
      "algorithm.returns": "trajectory", "train.tokens_per_micro_batch": 4096 + 3 * 100}),
    ("--rm-type kernelbench --rollout-max-prompt-len 2000", {"data.max_prompt_tokens": 2000}),
    ("--rm-type math --max-turns 3", {"env.name": None, "data.max_prompt_tokens": None}),
    ("--use-wandb --wandb-project mine", {"logging.wandb_project": "mine"})]


@pytest.mark.parametrize("text, expected", CASES)
def test_flags_become_settings(text, expected):
    values = translated(f"{GIVEN} {text}").values()
    assert {key: values.get(key) for key in expected} == expected
    assert values.keys() <= known_keys().keys()


REFUSED = [
    ("--gama 0.4", "there is no flag '--gama'. Did you mean '--gamma'?"),
    ("--lr small", "--lr cannot be read, for 'small' is no number"), ("--lr", "--lr has no value"),
    ("--colocate=yes", "--colocate takes no value"), ("--lr 1 2", "'2' belongs to no flag"),
    ("--n-samples-per-prompt 1.5", "is no number"), ("--lr nan", "is out of range"),
    ("--advantage-estimator grop", "Did you mean 'grpo'"),
    ("--global-batch-size 3", "does not divide the 8 samples"),
    ("--load /megatron/there", "Megatron's checkpoints are not read here"),
    ("--ref-load other", "is another model than 'm'"), ("--input-key input", "rename it in the file"),
    ("--kl-coef 0.1 --kl-loss-coef 0.1", "charge the KL twice"),
    ("--actor-num-gpus-per-node 3 --tensor-model-parallel-size 2", "do not divide"),
    ("--disable-rewards-normalization", "leaves a group's baseline out"),
    ("--dynamic-sampling-filter-path mine.keep", "another filter than the one that is known"),
    ("--expert-tensor-parallel-size 2", "splits an expert"),
    ("--min-lr 1e-7", "a schedule falls to 0"), ("--loss-type sft_loss", "scripts/sft.py"),
    ("--eval-max-response-len 7", "evaluations draw as the training does"),
    ("--eval-prompt-data aime", "the name of one data set and its file"),
    ("--advantage-estimator gspo --calculate-per-token-loss", "has one value a sequence"),
    ("--attention-dropout 0.1", "drops activations")]


@pytest.mark.parametrize("text, message", REFUSED)
def test_what_cannot_be_is_refused(text, message):
    with pytest.raises(UserError) as refused:
        translated(f"{GIVEN} {text}")
    assert message in " ".join(str(refused.value).split())


def test_all_wrong_flags_are_told_together():
    with pytest.raises(ConfigError) as refused:
        translated("--gama 1 2 --lr x --colocate=1 stray")
    assert len(refused.value.problems) == 4


KINDS = {"a": number(), "b": TEXTS, "c": FLAG, "d": TEXT, "e": INTEGERS}


@pytest.mark.parametrize("words, values", [
    (["--a", "1"], {"a": 1.0}), (["--a=-1e-3"], {"a": -1e-3}), (["--a", "-1.5"], {"a": -1.5}),
    (["--b", "x", "y", "--c"], {"b": ["x", "y"], "c": True}), (["--b=x", "--c"], {"b": ["x"], "c": True}),
    (["--d", "a=b"], {"d": "a=b"}), (["--d=a=b"], {"d": "a=b"}), (["--e", "1", "2"], {"e": [1, 2]}),
    (["--a", "1", "--a", "2"], {"a": 2.0}), ([], {})])
def test_words_are_read_as_argparse_reads_them(words, values):
    import argparse
    parser = argparse.ArgumentParser()
    for name, options in {"a": {"type": float}, "b": {"nargs": "+"}, "c": {"action": "store_true"}, "d": {},
                          "e": {"nargs": "+", "type": int}}.items():
        parser.add_argument(f"--{name}", **options)
    theirs = {name: value for name, value in vars(parser.parse_args(words)).items() if value not in (None,
                                                                                                     False)}
    assert flags.read(words, KINDS) == values == theirs


def test_a_key_on_the_command_line_stands_nowhere():
    made = translated(f"{GIVEN} --use-wandb --wandb-key s3cret")
    assert "s3cret" not in recipe(made) and "s3cret" not in repr(made) and "WANDB_API_KEY" in recipe(made)


def test_a_hugging_face_folder_to_load_is_what_training_starts_from(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    values = translated(f"--hf-checkpoint m --load {tmp_path} --ref-load {tmp_path}").values()
    assert values["model.path"] == str(tmp_path)


def data(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}", "answer": "#### 1"}) + "\n" for n in range(10)))
    return path


def test_epochs_are_counted_and_num_rollout_goes_before_them(tmp_path):
    text = f"--hf-checkpoint m --prompt-data {data(tmp_path)} --rollout-batch-size 4 --num-epoch 3"
    assert translated(text).values()["train.steps"] == 6
    assert translated(f"{text} --num-rollout 5").values()["train.steps"] == 5
    assert "train.steps" in translated("--hf-checkpoint m --num-epoch 3").missing


def test_a_printed_recipe_resolves_to_the_same_and_is_not_refused(tmp_path):
    made = translated(f"{GIVEN} --prompt-data {data(tmp_path)} --n-samples-per-prompt 4")
    path = tmp_path / "printed.py"
    path.write_text(recipe(made))
    settings = recipes.settings(str(path))
    assert resolve(settings) == resolve(made.settings())
    settings.env.name = "gsm8k"  # as --config.env.name would: slime has it as functions
    refuse_settings(resolve(settings), training)


def test_the_users_own_flags_make_a_run_that_nothing_speaks_against():
    given = (GIVEN.replace("100", "12288") + " " + seed_texts.SLIME_MODEL + seed_texts.SLIME_PARALLELISM
             + seed_texts.SLIME_TURNS + seed_texts.SLIME_TRAINING + "--save-interval 50 --max-tokens-per-gpu "
                                                                    "4096")
    made = translated(given)
    assert not made.missing
    refuse_settings(resolve(made.settings()), training)


def test_a_folder_of_megatrons_is_told_by_what_it_holds(tmp_path):
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("566")
    (tmp_path / "iter_0000566" / "mp_rank_00").mkdir(parents=True)
    with pytest.raises(UserError, match="it holds iter_0000566 with 1 ranks; mp_rank_00 without"):
        translated(f"{GIVEN} --load {tmp_path}")
