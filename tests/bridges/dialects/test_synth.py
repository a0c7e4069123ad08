"""synth-ai's TOML: the numbers of its users' documents come out, and what cannot be is refused by name."""
import ast
import json
import tomllib

import pytest

from bridges.dialects import READ, recipe
from bridges.dialects.applying import flattened, without_aliases
from bridges.dialects.synth import reading
from bridges.dialects.synth.keys import ALIASES, KEYS
from bridges.dialects.synth.rules import seeds_text
from jaxrl_moe import recipes
from jaxrl_moe.checks.start import training
from jaxrl_moe.config import ConfigError, known_keys, resolve
from jaxrl_moe.types import UserError
from tests.helpers.seed_texts import AGORA_TOML, AGORA_TUNING
from tests.helpers.settings import refuse_settings

URL = "http://localhost:8101"
MODEL = '[model]\nbase = "m"\n'


def translated(text, tmp_path, *words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return READ["synth"]([str(path), *words])


def merged(*texts):
    """Sections of several TOML texts laid over each other, as a text."""
    sections = {}
    for text in texts:
        for name, keys in tomllib.loads(text).items():
            sections.setdefault(name, {}).update(keys)
    lines = [f"[{name}]\n" + "".join(f"{key} = {_literal(value)}\n" for key, value in keys.items())
             for name, keys in sections.items()]
    return "\n".join(lines)


def _literal(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(each)}" for key, each in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_the_users_own_toml_gives_the_numbers_that_it_names(tmp_path):
    made = translated(AGORA_TOML, tmp_path, "--task-url", URL)
    expected = {
        "model.path": "Qwen/Qwen3-30B-A3B", "lora.rank": 16, "lora.targets": ("all-linear",),
        "algorithm.loss": "gspo", "algorithm.advantage": "grpo", "rollout.prompts_per_step": 8,
        "rollout.group_size": 4, "train.steps": 12, "optimizer.learning_rate": 3e-5,
        "train.tokens_per_micro_batch": 2 * 4096, "data.max_prompt_tokens": 512,
        "episodes.max_tokens": 3584, "rollout.max_tokens": 3072, "endpoint.serve": True,
        "data.seeds": "0-999", "run_dir": "runs/mine",
        "env.name": f"task_app(url='{URL}', max_concurrent_rollouts=4, run='mine', reward='outcome')"}
    assert {key: made.values()[key] for key in expected} == expected
    assert "algorithm.minibatches" not in made.values() and not made.missing and not made.unused


@pytest.mark.parametrize("change, expected", [
    ("overfitting", {"lora.dropout": 0.1, "optimizer.learning_rate": 1e-5}),
    ("underfitting", {"optimizer.learning_rate": 5e-5}),   # 2 x 16 sequences: all of a step, one update
    ("memory", {"train.tokens_per_micro_batch": 4096, "algorithm.minibatches": 2}),
    ("context", {"train.tokens_per_micro_batch": 3072, "data.max_prompt_tokens": 384,
                 "episodes.max_tokens": 2688})])
def test_what_the_users_document_advises_has_its_effect(change, expected, tmp_path):
    values = translated(merged(AGORA_TOML, AGORA_TUNING[change]), tmp_path, f"--task-url={URL}").values()
    assert {key: values[key] for key in expected} == expected
    assert ("algorithm.minibatches" in values) == ("algorithm.minibatches" in expected)


CASES = [
    ("[lora]\nalpha = 64\n", {"lora.rank": 16, "lora.alpha": 64.0}),
    ("[model]\nbase = 'm'\ntrainer_mode = 'full'\n", {"lora.rank": 0}),
    ("[model]\nbase = 'm'\nlabel = 'agora'\n", {"run_dir": "runs/agora"}),
    ("[algorithm]\nvariety = 'grpo'\n", {"algorithm.loss": "clipped_surrogate", "algorithm.kl_coef": 0.0}),
    ("[algorithm]\ntype = 'online'\nmethod = 'gspo'\n", {"algorithm.loss": "gspo"}),
    ("[evaluation]\nseeds = [0, 1, 2, 7]\ninstances = 3\nevery_n_iters = 5\n",
     {"data.eval_seeds": "0-2,7", "data.seeds": "3-6,8-999", "eval.prompts": 3, "eval.every": 5,
      "eval.at_start": False}),
    ("[rubric]\nenabled = true\n[rubric.weights]\nenv = 0.2\nevent = 0.4\noutcome = 0.4\n",
     {"algorithm.reward_blend": (0.2, 0.4, 0.4)}),
    ("[judge]\nenabled = true\n[judge.reward_blend]\nenv = 0.3\nevent = 0.3\noutcome = 0.4\n",
     {"algorithm.reward_blend": (0.3, 0.3, 0.4)}),
    ("[training]\nstep_rewards_enabled = true\nstep_rewards_mode = 'decision_stepwise'\n"
     "step_rewards_indicator_lambda = 0.5\nstep_rewards_beta = 0.0\nstep_rewards_strategy = 'consistent'\n",
     {"algorithm.step_rewards": "decision_stepwise", "algorithm.step_lambda": 0.5,
      "algorithm.returns": "trajectory", "algorithm.turn_gamma": 1.0}),
    ("[training.rewards]\nstep_rewards_enabled = true\n[training.lora]\nr = 8\n",
     {"algorithm.step_lambda": 1.0, "lora.rank": 8}),
    ("[topology]\ngpus_for_training = 2\n[training]\nbatch_size = 2\n",
     {"mesh.fsdp": 2, "train.tokens_per_micro_batch": 2 * 2 * 4096}),
    ("[rollout.policy_config]\nmax_tokens = 512\ntemperature = 0.2\ntop_p = 0.95\n",
     {"rollout.max_tokens": 512, "rollout.temperature": 0.2, "rollout.top_p": 0.95}),
    ("[policy]\nmax_tokens = 512\ntemperature = 0.6\n",
     {"rollout.max_tokens": 512, "rollout.temperature": 0.6})]


@pytest.mark.parametrize("text, expected", CASES)
def test_a_section_becomes_settings(text, expected, tmp_path):
    values = translated(merged(MODEL, text), tmp_path, f"--task-url={URL}").values()
    assert {key: values.get(key) for key in expected} == expected


@pytest.mark.parametrize("text, spec", [
    ("[services]\njudge_url = 'https://judge.example.org/api'\n[judge.options]\nevent = true\n"
     "provider = 'human'\nrubric_id = 'agora@v1'\nmodel = 'openai/gpt-oss-120b'\ntimeout_s = 45\n",
     "judge_url='https://judge.example.org', judge_provider='human', judge_model='openai/gpt-oss-120b', "
     "rubric_id='agora@v1', judge_turns=True, judge_timeout=45.0)"),
    ("[rollout]\nenv_name = 'agora'\npolicy_name = 'p'\nmax_turns = 3\n",
     "env_name='agora', policy_name='p', max_turns=3, run='mine', reward='outcome')"),
    ("[rubric.weights]\nenv = 1.0\n", "run='mine', reward='return')"),
    ("[training]\nstep_rewards_enabled = true\n", "run='mine', by_calls=True)")])
def test_the_task_app_gets_its_settings(text, spec, tmp_path):
    name = translated(merged(MODEL, text), tmp_path, f"--task-url={URL}").values()["env.name"]
    assert name.startswith(f"task_app(url='{URL}', ") and name.endswith(spec)


REFUSED = [
    ("[training]\nlearning_rat = 1e-5\n", "no key 'training.learning_rat'. Did you mean "
     "'training.learning_rate'?"),
    ("[lora]\nlearning_rate = 1e-5\n", "Did you mean 'training.learning_rate'?"),
    ("[trainig]\nbatch_size = 2\n", "Did you mean 'training.batch_size'?"),
    ("[training]\nlearning_rate = '1e-5'\n", "training.learning_rate = '1e-5' is of type str, and a number"),
    ("[training]\ngroup_size = true\n", "is of type bool, and a whole number is needed"),
    ("[rollout]\nepisodes_per_batch = 7\n",
     "makes 7 episodes a step, which groups of training.group_size = 4"),
    ("[model]\nbase = 'm'\nsource = 'n'\n", "the other of model.base and model.source, too"),
    ("[model]\nbase = 'ft:Qwen/Qwen3-4B:job'\n", "is a model in synth-ai's cloud"),
    ("[model]\nbase = 'm'\ntrainer_mode = 'qlora'\n", "needs a quantised base"),
    ("[model]\nbase = 'm'\ntrainer_mode = 'full'\n[lora]\nr = 16\n",
     "concerns adapters, and model.trainer_mode"),
    ("[model]\nbase = 'm'\ntrainer_mode = 'lroa'\n", "Did you mean 'lora'?"),
    ("[model]\nbase = 'm'\nlabel = '../up'\n", "cannot name a folder"),
    ("[algorithm]\nmethod = 'grpo'\nvariety = 'gspo'\n", "contradicts algorithm.method = 'grpo'"),
    ("[algorithm]\nvariety = 'ppo'\n", "is not known here"),
    ("[evaluation]\nseeds = [1, 1]\n", "names a seed twice"),
    ("[evaluation]\nseeds = [1]\ninstances = 2\n", "is more than the 1 of evaluation.seeds"),
    ("[evaluation]\nevery_n_iters = 2\n", "there are no evaluation.seeds"),
    ("[rollout]\nmax_turns = 6\n[training]\nmax_turns = 3\n", "is below rollout.max_turns = 6"),
    ("[rollout.env_config]\ndifficulty = 'easy'\n", "which its client cannot send yet"),
    ("[training]\nstep_rewards_enabled = true\n[rubric.weights]\nenv = 0.2\n", "is one of the two here"),
    ("[training]\nweight_sync_interval = 2\n", "give 1"),
    ("[rubric.weights]\nevent = 0.4\n", "has no effect without rubric.weights.env"),
    ("[vllm]\nmax_model_len = 256\n[policy]\nmax_tokens = 512\n", "leaves 224 tokens for all turns"),
    ("[services]\ntask_url = 'localhost:8101'\n", "is no address of a server"),
    ("[lora]\nr = 8\n[training.lora]\nr = 16\n", "says again what lora.r = 8 says")]


@pytest.mark.parametrize("text, message", REFUSED)
def test_what_cannot_be_is_refused_with_file_and_key(text, message, tmp_path):
    with pytest.raises(UserError) as refused:
        translated(merged(MODEL, text), tmp_path)
    told = " ".join(str(refused.value).split())
    assert message in told and "mine.toml" in told


def test_all_that_is_wrong_is_told_together(tmp_path):
    with pytest.raises(ConfigError) as refused:
        translated(MODEL + "[training]\nbatch_size = 0\nlearning_rat = 1\n[lora]\nr = 'x'\n", tmp_path)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize("text, message", [
    ("[model\n", "is no TOML"), ("[lora]\nr = 4\n", "model.base is absent")])
def test_a_file_that_is_none_is_refused(text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        translated(text, tmp_path)


@pytest.mark.parametrize("words, message", [
    ((), "none is given"), (("a.toml", "b.toml"), "2 are given"), (("none.toml",), "cannot be read"),
    (("a.toml", "--task-ulr=x"), "Did you mean '--task-url'"), (("a.toml", "--type=sft"), "scripts/sft.py"),
    (("a.toml", "--task-url"), "has no value")])
def test_words_that_are_no_command_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        READ["synth"](words)


def test_without_the_task_apps_url_a_run_says_what_is_missing(tmp_path):
    made = translated(AGORA_TOML, tmp_path)
    assert "--task-url" in str(made.missing["env.name"]) and "env.name" not in made.values()
    assert "config.env.name is still to be set" in recipe(made)


def test_the_command_lines_url_goes_before_the_files(tmp_path):
    text = MODEL + "[services]\ntask_url = 'http://elsewhere:1'\n"
    assert URL in translated(text, tmp_path, f"--task_url={URL}").values()["env.name"]
    assert "elsewhere" in translated(text, tmp_path).values()["env.name"]


def test_every_alias_leads_to_a_key_and_every_setting_is_ours(tmp_path):
    assert set(ALIASES.values()) <= KEYS.keys() and not ALIASES.keys() & KEYS.keys()
    later = {"data.seeds", "data.eval_seeds"}  # of the task of task apps
    for text, _ in CASES:
        values = translated(merged(MODEL, text), tmp_path, f"--task-url={URL}").values()
        assert values.keys() <= known_keys().keys() | later


def test_values_without_meaning_are_listed_with_their_reason(tmp_path):
    text = "[topology]\ntype = 'single_node_split'\ngpus_for_vllm = 1\n[reference]\nplacement = 'none'\n"
    made = translated(merged(AGORA_TOML, text), tmp_path, f"--task-url={URL}")
    assert [each.key for each in made.unused] == ["topology.type", "topology.gpus_for_vllm",
                                                  "reference.placement"]
    assert "one process trains and draws here" in recipe(made) and "without its adapters" in recipe(made)


@pytest.mark.parametrize("seeds, text", [([], ""), ([3], "3"), ([2, 0, 1, 5], "0-2,5"), ([1, 3], "1,3")])
def test_seeds_are_written_as_ranges(seeds, text):
    assert seeds_text(seeds) == text


def test_nested_sections_are_flattened_down_to_whole_ones():
    flat = flattened({"a": {"b": {"c": 1}}, "tags": {"x": {"y": 2}}, "lora": {}}, KEYS)
    assert flat == {"a.b.c": 1, "tags": {"x": {"y": 2}}}
    assert without_aliases({"policy.label": "x"}, ALIASES, "f") == ({"model.label": "x"},
                                                                    {"model.label": "policy.label"})


@pytest.mark.parametrize("shipped", [True, False])
def test_a_printed_recipe_resolves_to_the_same_and_is_not_refused(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("ENVIRONMENT_API_KEY", "sk_env_test")
    text = (recipes.SHIPPED / "rl_lora_qwen3_moe_2xh200.toml").read_text() if shipped else AGORA_TOML
    made = translated(text, tmp_path, f"--task-url={URL}")
    path = tmp_path / "printed.py"
    path.write_text(recipe(made))
    config = resolve(recipes.settings(str(path)))
    assert config == resolve(made.settings())
    refuse_settings(config, training)


def test_the_shipped_toml_is_the_users_completed(tmp_path):
    shipped = tomllib.loads((recipes.SHIPPED / "rl_lora_qwen3_moe_2xh200.toml").read_text())
    for section, keys in tomllib.loads(AGORA_TOML).items():
        assert keys.items() <= shipped[section].items()
    values = reading.read([str(recipes.SHIPPED / "rl_lora_qwen3_moe_2xh200.toml")]).values()
    assert values["run_dir"] == "runs/agora-ex-qwen3-moe-rl" and values["lora.dropout"] == 0.05
    assert values["algorithm.minibatches"] == 2 and values["train.steps"] == 12


def test_what_a_file_holds_ends_no_docstring_and_no_comment(tmp_path):
    hostile = 'a"""\nimport sys; sys.exit(3)\n\\N{x} #'
    text = merged(MODEL, f"[rollout.policy_config]\nmodel = {json.dumps(hostile)}\n"
                  f"[rollout]\npolicy_name = {json.dumps(hostile)}\n")
    made = translated(text, tmp_path, f"--task-url={URL}")
    document, base, function = ast.parse(recipe(made)).body
    assert isinstance(document, ast.Expr) and base.module == "jaxrl_moe.config"
    assigned = [node for node in function.body if isinstance(node, ast.Assign)]
    assert len(assigned) == len(made.assigned) + 1 and len(function.body) == len(assigned) + 1
    named = next(node.value for node in assigned if ast.unparse(node.targets[0]) == "config.env.name")
    assert ast.literal_eval(named) == made.values()["env.name"]
