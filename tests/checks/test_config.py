"""The configuration: one source of truth, and errors that name field, value and fix."""
import dataclasses
import json
import re
import warnings

import pytest

from jaxrl_moe import config as config_lib
from jaxrl_moe.checks import problems
from jaxrl_moe.checks.sections.learner import router_problems, warn_of_router
from jaxrl_moe.checks.start import evaluation, fine_tuning
from jaxrl_moe.config import ConfigError, ScratchSection, base, resolve
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.model.families.registry import from_scratch
from jaxrl_moe.rl.advantages import ADVANTAGES
from jaxrl_moe.types import Problem, UserError
from tests.helpers.settings import changed, refuse_settings, usable


def test_base_resolves_to_the_defaults_of_the_dataclasses():
    assert resolve(base()) == config_lib.Config()


def test_a_resolved_config_survives_json():
    config = resolve(changed(lora__targets=("q_proj", "v_proj"), rollout__stop_strings=("\n\n",), seed=3,
                             algorithm__reward_blend=(0.2, 0.4, 0.4)))
    assert resolve(json.loads(json.dumps(config_lib.to_json(config)))) == config


def test_a_recipe_cannot_set_an_unknown_key():
    with pytest.raises(AttributeError, match="rank"):
        base().lora.rnk = 3


@pytest.mark.parametrize("settings, near",
                         [({"lora": {"rnk": 3}}, "mean 'lora.rank'"),
                          ({"rolout": {"slots": 3}}, "mean 'rollout'"),
                          ({"sed": 1}, "mean 'seed'"),
                          ({"optimizer": {"lr": 1.0}}, "Those of optimizer are learning_rate, schedule"),
                          ({"quux": 1}, "The sections are model"),
                          ({"optimizer": {"learningrate": 1.0}}, "mean 'optimizer.learning_rate'")])
def test_an_unknown_key_is_refused_with_the_nearest_known_one(settings, near):
    with pytest.raises(ConfigError, match=f"no setting.*{near}"):
        resolve(settings)


def test_a_wrong_type_names_field_and_type():
    with pytest.raises(ConfigError, match="lora.rank = 'four' is of type str; it must be a int"):
        resolve({"lora": {"rank": "four"}})
    with pytest.raises(ConfigError, match="train.pack = 1 is of type int; it must be a bool"):
        resolve({"train": {"pack": 1}})


def test_whole_numbers_serve_as_floats():
    assert resolve({"lora": {"alpha": 8}}).lora.alpha == 8.0
    assert resolve({"algorithm": {"reward_blend": "1,0,-0.5"}}).algorithm.reward_blend == (1.0, 0.0, -0.5)


def test_names_are_split_at_commas_outside_brackets():
    assert config_lib.split_names("q_proj, v_proj") == ("q_proj", "v_proj")
    assert config_lib.split_names(r"layer\d{1,2},(a|b),[c,d]") == (r"layer\d{1,2}", "(a|b)", "[c,d]")
    assert resolve({"lora": {"targets": "q_proj,v_proj"}}).lora.targets == ("q_proj", "v_proj")


FIELDS = config_lib.known_fields()
NUMBERS = [key for key, field in FIELDS.items() if field.type in (int, float)]
STRINGS = [key for key, field in FIELDS.items() if field.type in (str, tuple[str, ...])]


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_says_what_it_means(key):
    meaning = config_lib.setting_of(FIELDS[key]).meaning
    assert len(meaning) > 5 and not meaning.endswith(".")


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_a_range_that_its_default_keeps(key):
    described = config_lib.setting_of(FIELDS[key])
    assert (described.at_least is None) != (described.above is None)
    assert described.allows(FIELDS[key].default)
    assert not described.allows(float("nan"))


@pytest.mark.parametrize("key", STRINGS)
def test_every_string_has_choices_or_says_that_it_is_free(key):
    described = config_lib.setting_of(FIELDS[key])
    assert bool(described.choices or described.table) != bool(described.kind)
    assert described.kind in ("", "text", "path", "files")


@pytest.mark.parametrize("key", [key for key in FIELDS if config_lib.setting_of(FIELDS[key]).choices])
def test_a_value_that_is_no_literal_choice_is_refused_with_all_that_are(key):
    described = config_lib.setting_of(FIELDS[key])
    if described.table:
        assert described.chosen("nonesuch")  # for the rooms that know the table to refuse
        return
    assert described.chosen(FIELDS[key].default)
    with pytest.raises(ConfigError, match=f"{key} = 'nonesuch' is not known: use ") as refused:
        resolve(changed(**{key.replace(".", "__"): "nonesuch"}))
    assert all(name in str(refused.value) for name in described.choices)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_value_below_its_range_is_refused(key):
    described = config_lib.setting_of(FIELDS[key])
    value = described.above if described.at_least is None else described.at_least - 1
    settings = changed(**{key.replace(".", "__"): FIELDS[key].type(value)})
    with pytest.raises(ConfigError, match=f"{key} = .* out of range: it must be (at least|more "
                                          "than|between)"):
        resolve(settings)


@pytest.mark.parametrize("key", [
    key for key in NUMBERS if config_lib.setting_of(FIELDS[key]).at_most is not None])
def test_a_value_above_its_range_is_refused(key):
    value = FIELDS[key].type(config_lib.setting_of(FIELDS[key]).at_most + 1)
    highest = re.escape(f"{value - 1:.15g}")
    with pytest.raises(ConfigError, match=f"{key} = .* out of range: it must be .* {highest}\\.$"):
        resolve(changed(**{key.replace(".", "__"): value}))


def test_all_that_is_wrong_is_told_together():
    wrong = {"lora": {"rnk": 3, "rank": "four"}, "rollout": {"slots": 0, "backend": "jaxx"}, "train": 3}
    with pytest.raises(ConfigError) as refused:
        resolve(wrong)
    problems = refused.value.problems
    assert all(isinstance(problem, Problem) for problem in problems)
    assert {problem.field: problem.value for problem in problems} == {
        "lora.rnk": 3, "lora.rank": "four", "rollout.slots": 0, "rollout.backend": "jaxx", "train": 3}
    lines = str(refused.value).splitlines()
    assert lines[0] == "5 things stand in the way:"
    assert lines[1:] == [f"{i}. {problem}" for i, problem in enumerate(problems, 1)]


def test_one_problem_is_told_as_a_sentence():
    with pytest.raises(ConfigError, match="^rollout.slots = 0 is out of range: it must be at "
                                          "least 1.$") as refused:
        resolve({"rollout": {"slots": 0}})
    assert len(refused.value.problems) == 1
    assert ConfigError("words").problems == ("words",) and str(ConfigError("words")) == "words"


def test_contradictions_are_told_together_too():
    with pytest.raises(ConfigError) as refused:
        refuse_settings(resolve(usable(run_dir="", rollout__page_size=24)))
    fields = [str(problem).partition(" ")[0] for problem in refused.value.problems]
    assert fields == ["rollout.page_size", "run_dir"]


def test_paths_have_their_home_folder_filled_in_and_other_texts_do_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    paths = [key for key in FIELDS if config_lib.setting_of(FIELDS[key]).kind == "path"]
    assert {
        "run_dir", "model.path", "data.path", "data.eval_path", "sft.path", "critic.path", "servers.python",
        "servers.sync_folder"
    } == set(paths)
    config = resolve(changed(**{key.replace(".", "__"): "~/here" for key in paths}, data__suffix="~/here"))
    assert {config_lib.value_of(config, key) for key in paths} == {"/home/her/here"}
    assert config.data.suffix == "~/here"
    assert resolve(changed(model__path="Qwen/Qwen3-8B")).model.path == "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    "values, message",
    [(dict(run_dir=""), "run_dir is empty"),
     (dict(model__dtype="fp8"), "model.dtype = 'fp8'"),
     (dict(scratch__vocab_size=100), "scratch.vocab_size = 100"),
     (dict(scratch__num_heads=3), "does not divide scratch.num_heads = 3"),
     (dict(scratch__num_experts=1), "exceeds scratch.num_experts = 1"),
     (dict(data__generate="poems"), "data.generate = 'poems'"),
     (dict(lora__targets=()), "lora.targets is empty"),
     (dict(lora__targets=("q_proj", "*_proj")), r"lora.targets holds '\*_proj'.*such as \.\*_proj"),
     (dict(rollout__min_p=1.0), "rollout.min_p = 1.0 is out of range"),
     (dict(train__offload=("reference",)),
      "train.offload names 'reference', and this run keeps none: lora.rank = 16"),
     (dict(rollout__page_size=24), "rollout.page_size = 24 is not a power of two"),
     (dict(rollout__kv_tokens=100), "rollout.kv_tokens = 100 cannot hold even one sequence"),
     (dict(algorithm__truncated="penalise"), "penalises nothing"),
     (dict(algorithm__truncated_penalty=0.5), "has no effect under"),
     (dict(sft__steps=5, sft__epochs=1), "both say how long"),
     (dict(sft__stop_at_accuracy=0.5), "needs evaluations during SFT"),
     (dict(sft__full=False, lora__rank=0, algorithm__kl_coef=0.0), "lora.rank = 0 makes none"),
     (dict(eval__every=5), "eval.every = 5 has no effect, as data.eval_path"),
     (dict(sft__eval_every=5), "sft.eval_every = 5 has no effect"),
     (dict(lora__rank=0, algorithm__kl_coef=0.0, lora__dropout=0.1),
      "lora.dropout = 0.1 has no effect, as lora.rank = 0"),
     (dict(lora__rank=0, algorithm__kl_coef=0.0, lora__alpha=8.0), "lora.alpha = 8.0 has no effect"),
     (dict(lora__rank=0, algorithm__kl_coef=0.0, lora__rslora=True), "lora.rslora = True has no effect"),
     (dict(scratch__num_layers=2),
      "scratch.num_layers = 2 has no effect, as scratch.vocab_size = 0 makes no model"),
     (dict(scratch__router_bias=True), "scratch.router_bias = True has no effect"),
     (dict(logging__profile_start=100), "lies beyond train.steps"),
     (dict(mesh__expert=4, mesh__transport="raged"), "mesh.transport = 'raged' is not known: use gather"),
     (dict(mesh__expert=4, mesh__dispatch="multi"), "mesh.dispatch = 'multi' is not known: use single"),
     (dict(mesh__expert=4, mesh__transport="capacity"), "a capacity needs both"),
     (dict(mesh__expert=4, mesh__transport="ragged", mesh__dispatch="hybrid"), "goes in one stage"),
     (dict(mesh__transport="gather"), "mesh.transport = 'gather' has no effect, as mesh.expert = 1"),
     (dict(mesh__host_devices=4), "mesh.host_devices = 4 has no effect, as mesh.expert = 1"),
     (dict(mesh__dispatch="hybrid"),
      "mesh.dispatch = 'hybrid' sends tokens over the expert axis, and mesh.expert = 1")])
def test_contradictions_are_refused_with_the_reason(values, message):
    with pytest.raises(ConfigError, match=message):
        refuse_settings(resolve(usable(**values)))


@pytest.mark.parametrize("key, value, near", [("env__name", "gsm8", "gsm8k"),
                                              ("algorithm__advantage", "gpro", "grpo"),
                                              ("algorithm__loss", "gsp", "gspo"),
                                              ("algorithm__aggregation", "token_mean", "token-mean"),
                                              ("algorithm__kl_estimator", "k33", "k3"),
                                              ("optimizer__schedule", "cosin", "cosine"),
                                              ("train__remat", "ful", "full"),
                                              ("algorithm__truncated", "keeep", "keep"),
                                              ("model__attention", "xlaa", "xla"),
                                              ("model__grouped_matmul", "raged", "ragged")])
def test_an_unknown_name_is_refused_with_the_nearest_and_all_known(key, value, near):
    with pytest.raises(ConfigError, match=f"{key.replace('__', '.')} = '{value}' is not known. Did you mean "
                                          f"'{near}'.*Known: "):
        refuse_settings(resolve(usable(**{key: value})))


@pytest.mark.parametrize("name", [name for name, row in ADVANTAGES.items() if row.needs_group])
def test_an_advantage_that_compares_completions_needs_more_than_one(name):
    config = resolve(
        usable(rollout__group_size=1, algorithm__advantage=name, sft__path="x.jsonl", sft__epochs=1))
    with pytest.raises(ConfigError, match="rollout.group_size = 1 every advantage is 0"):
        refuse_settings(config)
    refuse_settings(config, fine_tuning)


def test_each_phase_asks_that_its_batches_can_be_laid_out():
    short = resolve(
        usable(train__tokens_per_micro_batch=700, sft__path="x.jsonl", sft__steps=1, sft__max_tokens=700))
    with pytest.raises(ConfigError, match="cannot hold the longest sequence: .* = 768"):
        refuse_settings(short)
    refuse_settings(short, fine_tuning)
    with pytest.raises(ConfigError, match="minibatches = 3 does not divide"):
        refuse_settings(resolve(usable(algorithm__minibatches=3)))
    sft = resolve(usable(train__tokens_per_micro_batch=1000, sft__path="x.jsonl", sft__steps=1))
    with pytest.raises(ConfigError, match="cannot hold the longest conversation: sft.max_tokens = 1024"):
        refuse_settings(sft)
    refuse_settings(dataclasses.replace(sft, sft=dataclasses.replace(sft.sft, steps=0)))


def test_what_the_phase_needs_is_asked_for():
    refuse_settings(resolve(usable()))
    with pytest.raises(ConfigError, match="model.path is empty"):
        refuse_settings(resolve(usable(model__path="")))
    with pytest.raises(ConfigError, match="data.path is empty"):
        refuse_settings(resolve(usable(data__path="")))
    refuse_settings(resolve(changed(model__path="m", sft__path="x.jsonl", sft__steps=1)), fine_tuning)
    with pytest.raises(ConfigError, match="sft.path is empty"):
        refuse_settings(resolve(usable()), fine_tuning)
    with pytest.raises(ConfigError, match="nothing to do"):
        refuse_settings(resolve(usable(sft__path="x.jsonl")), fine_tuning)


def test_a_named_task_is_looked_up_for_pure_sft_too():
    with pytest.raises(ConfigError, match="Did you mean 'gsm8k'"):
        refuse_settings(resolve(usable(env__name="gsm8", sft__path="x.jsonl", sft__steps=1)), fine_tuning)
    with pytest.raises(UserError, match="the task 'word_problems' has no setting 'overlong_tokens'"):
        refuse_settings(resolve(usable(env__name="word_problems(overlong_tokens=5)")))
    with pytest.raises(ConfigError, match="sft.eval_every = 5 has no effect, as env.name"):
        refuse_settings(resolve(changed(sft__path="x", sft__steps=1, sft__eval_every=5, data__eval_path="y")),
                        fine_tuning)


def test_an_evaluation_asks_for_a_task_and_held_out_prompts():
    refuse_settings(resolve(usable(data__eval_path="e")), evaluation)
    with pytest.raises(ConfigError, match="data.eval_path is empty"):
        refuse_settings(resolve(usable()), evaluation)
    with pytest.raises(ConfigError, match="env.name = '' is not known"):
        refuse_settings(resolve(usable(env__name="", data__eval_path="e")), evaluation)


def test_kernels_that_this_machine_cannot_run_are_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tokamax, which is not installed"):
        refuse_settings(resolve(usable(model__grouped_matmul="tokamax")))
    cudnn = usable(model__attention="cudnn")
    monkeypatch.setattr("jaxrl_moe.checks.machine.platform_of", lambda: "cpu")
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU, and JAX runs on cpu"):
        refuse_settings(resolve(cudnn))
    monkeypatch.setattr("jaxrl_moe.checks.machine.platform_of", lambda: "gpu")
    refuse_settings(resolve(cudnn))
    cudnn.model.dtype = "float32"
    with pytest.raises(ConfigError, match="no float32 kernel"):
        refuse_settings(resolve(cudnn))


def asking(**fields):
    return dataclasses.replace(from_scratch(ScratchSection(), 320), router_aux_loss_coef=0.01, **fields)


def test_routers_trained_without_the_balance_that_their_checkpoint_asks_for_are_warned_of():
    full = {"lora__rank": 0, "algorithm__kl_coef": 0.0}
    for settings in (full, {"moe__router": "train", "algorithm__kl_coef": 0.0}):
        with pytest.warns(UserWarning,
                          match=r"router_aux_loss_coef = 0.01: set moe.aux_loss_coef=0.01 to apply it"):
            warn_of_router(resolve(usable(**settings)), asking())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_router(resolve(usable()), asking())
        warn_of_router(resolve(usable(**full)), dataclasses.replace(asking(), router_aux_loss_coef=0.0))
        for settings in ({"moe__router": "freeze"}, {"moe__aux_loss_coef": 1e-3}, {"moe__bias_rate": 1e-3}):
            warn_of_router(resolve(usable(**full, **settings)), asking())


def test_balancing_frozen_routers_warns_of_where_the_loss_goes_instead():
    for settings in ({"moe__aux_loss_coef": 0.001}, {"moe__z_loss_coef": 0.001}):
        with pytest.warns(UserWarning, match="routers are frozen .* train the layers below them instead"):
            warn_of_router(resolve(usable(**settings)), asking())


@pytest.mark.parametrize("settings", [
    {"moe__replay": "r3"}, {"moe__replay": "r2"}, {"moe__aux_loss_coef": 0.001}, {"moe__z_loss_coef": 0.001},
    {"moe__bias_rate": 0.001, "algorithm__kl_coef": 0.0}, {"moe__router": "freeze"}])
def test_settings_of_routers_are_refused_on_a_dense_model(settings):
    dense = from_scratch(ScratchSection(num_experts=0), 320)
    name, value = next(iter(settings.items()))
    with pytest.raises(ConfigError, match=f"{name.replace('__', '.')} = {value!r} concerns routers, .* is "
                                          "dense"):
        problems.refuse([*router_problems(resolve(usable(**settings)), dense)])
    problems.refuse([*router_problems(resolve(usable()), dense)])


def test_a_bias_rate_needs_a_model_with_a_selection_bias():
    config = resolve(usable(moe__bias_rate=0.001, algorithm__kl_coef=0.0))
    with pytest.raises(ConfigError, match="moe.bias_rate = 0.001 .* has none: .* scratch.router_bias=true "
                                          "makes one from scratch"):
        problems.refuse([*router_problems(config, asking())])
    problems.refuse([*router_problems(config, from_scratch(ScratchSection(router_bias=True), 320))])


@pytest.mark.parametrize(
    "settings, reason",
    [({"moe__router": "train"},
      "moe.router = 'train' moves the routers, which the reference policy .* moving reference"),
     ({"moe__bias_rate": 0.001}, "moe.bias_rate = 0.001 moves .* moving reference"),
     ({"moe__replay": "r2", "algorithm__bypass": True},
      "moe.replay = 'r2' takes the routes .* which algorithm.bypass"),
     ({"moe__aux_loss_coef": -1.0}, "moe.aux_loss_coef = -1.0 is out of range")])
def test_settings_of_routers_that_contradict_others_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        refuse_settings(resolve(usable(**settings)))


def test_names_of_the_moe_section_are_checked():
    with pytest.raises(ConfigError, match="moe.replay = 'r4' is not known. Known: none, r2, r3"):
        refuse_settings(resolve(usable(moe__replay="r4")))
    with pytest.raises(ConfigError, match="moe.router = 'frozen' is not known"):
        refuse_settings(resolve(usable(moe__router="frozen")))


def test_clip_bounds_of_0_leave_a_loss_its_own_default():
    section = resolve(base()).algorithm
    assert make_policy_objective(section).settings.loss_settings.clip_low == 0.2
    gspo = dataclasses.replace(section, loss="gspo")
    assert make_policy_objective(gspo).settings.loss_settings.clip_high == 4e-4
    assert make_policy_objective(dataclasses.replace(gspo,
                                                     clip_high=0.01)).settings.loss_settings.clip_high == 0.01
    with pytest.raises(ConfigError, match="algorithm.clip_low = 0.1 has no effect"):
        make_policy_objective(dataclasses.replace(section, loss="cispo", clip_low=0.1))
