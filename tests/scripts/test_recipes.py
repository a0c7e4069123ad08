"""Every shipped recipe loads, resolves and validates, and says how to run it."""
import itertools
import os
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from jaxrl_moe import recipes
from jaxrl_moe.checks.start import fine_tuning, training
from jaxrl_moe.config import resolve
from jaxrl_moe.envs import make_task
from jaxrl_moe.learning.objective import make_policy_objective
from tests.helpers.recipes import RECIPES, load, name_of
from tests.helpers.settings import refuse_settings


def test_the_promised_recipes_are_there():
    on_gsm8k = ("grpo", "sft", "tiny", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "rloo", "reinforce_pp",
                "maxrl", "dppo_tv", "ppo")
    at_scale = ("qwen3_30b_a3b_grpo_h200", "agora_2xh200", "nmoe_8xb200")
    setups = ("quickstart", "gsm8k_ppo", "agora_gspo_qwen3_moe", "nmoe_grpo", "qwen3_8b_sglang")
    promised = {*setups, *(f"gsm8k/{name}" for name in on_gsm8k), *(f"scale/{name}" for name in at_scale)}
    assert promised <= set(map(name_of, RECIPES))


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_validates(path):
    config = resolve(load(path).get_config())
    sft = f"scripts/sft.py --config=configs/{name_of(path)}.py" in load(path).__doc__
    refuse_settings(config, fine_tuning if sft else training)
    make_policy_objective(config.algorithm, config.critic, config.moe)


@pytest.mark.parametrize("judge, asked, rollouts", [("ai", "", 0), ("human", "http://127.0.0.1:8103", 4)])
def test_agora_ex_has_its_judge_as_an_argument(judge, asked, rollouts):
    (path,) = [path for path in RECIPES if name_of(path) == "judges/agora_ex"]
    config = resolve(load(path).get_config(judge))
    refuse_settings(config, training)
    task = make_task(config.env.name)
    assert (task.judge_url, task.max_concurrent_rollouts) == (asked, rollouts)
    assert task.reward == ("judge" if asked else "outcome")
    assert config.rollout.prompts_per_step * config.rollout.group_size * config.train.steps == 384
    with pytest.raises(ValueError, match="one of ai, human"):
        load(path).get_config("robot")


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_states_its_command_its_hardware_and_what_to_expect(path):
    document = load(path).__doc__
    assert f"--config=configs/{name_of(path)}.py" in document
    assert "Hardware:" in document or "Memory:" in document
    assert "What to expect:" in document or "What happens:" in document


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_paths_in_a_recipe_follow_its_run_dir(path):
    settings = load(path).get_config()
    old = settings.run_dir
    settings.run_dir = "elsewhere"
    assert old not in str(settings)


def settings_of(path):
    lines = path.read_text().partition("def get_config()")[2].splitlines()
    return {line.strip() for line in lines if line.strip().startswith("config.")}


def test_what_recipes_share_stands_in_their_bases():
    for first, second in itertools.combinations(RECIPES, 2):
        alike = settings_of(first) & settings_of(second)
        assert len(alike) <= 10, f"{name_of(first)} and {name_of(second)} both say {sorted(alike)}"


def by_flag(path):
    """The settings of a recipe as the option --config reads them."""
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    with recipes.importable(path):
        values(["script", f"--config={path}"])
    return holder.value


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory on the import path that has a package called configs of its own, loaded already."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("NAME = 'theirs'\n")
    (tmp_path / "configs" / "helper.py").write_text("SLOTS = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


RECIPE = """
from configs.shared.gsm8k import gsm8k
{}

def get_config():
    config = gsm8k()
    config.rollout.slots = {}
    return config
"""


def test_a_shipped_recipe_finds_its_bases_beside_a_folder_configs_of_someone_else(elsewhere):
    import configs
    assert configs.NAME == "theirs"
    gspo = next(path for path in RECIPES if name_of(path) == "gsm8k/gspo")
    assert by_flag(gspo).algorithm.loss == load(gspo).get_config().algorithm.loss == "gspo"
    assert sys.modules["configs"] is configs and "configs.shared" not in sys.modules


def test_a_users_recipe_has_its_own_neighbours_and_the_shipped_bases(elsewhere):
    path = elsewhere / "configs" / "mine.py"
    imports = "from configs.helper import SLOTS\nfrom configs import NAME"
    path.write_text(RECIPE.format(imports, "SLOTS + len(NAME)"))
    settings = by_flag(path)
    assert settings.rollout.slots == 9 and settings.env.name == "gsm8k"


def test_a_users_recipe_outside_any_folder_configs_has_the_shipped_bases(tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE.format("", 5))
    assert by_flag(path).rollout.slots == load(path).get_config().rollout.slots == 5


def test_a_recipe_that_moved_is_pointed_to():
    assert recipes.same_name("configs/gspo.py") == ["configs/gsm8k/gspo.py"]
    assert recipes.same_name("configs/gsm8k_grpo.py") == ["configs/gsm8k/grpo.py"]
    assert recipes.same_name("configs/none.py") == []


def test_a_script_finds_the_bases_from_any_working_directory(elsewhere):
    root = recipes.SHIPPED.parent
    options = [f"--config={root}/configs/gsm8k/gspo.py", "--config.rollout.slots=0"]
    environment = os.environ | {"PYTHONPATH": f"{elsewhere}:{root}"}
    done = subprocess.run([sys.executable, str(root / "scripts/train.py"), *options], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 1 and "rollout.slots = 0 is out of range" in done.stderr
