"""Every shipped recipe loads, resolves and validates, and says how to run it."""

import pytest

from jaxrl_moe.checks.start import fine_tuning, training
from jaxrl_moe.config import resolve
from jaxrl_moe.learning.objective import make_policy_objective
from tests.helpers.recipes import RECIPES, load
from tests.helpers.settings import refuse_settings


def test_the_promised_recipes_are_there():
    assert {"quickstart", "gsm8k_grpo", "gsm8k_sft", "gsm8k_tiny", "qwen3_30b_a3b_grpo_h200", "dr_grpo", "dapo", "gspo", "cispo", "sapo",
            "rloo", "reinforce_pp", "maxrl", "dppo_tv", "ppo", "gsm8k_ppo", "agora_gspo_qwen3_moe",
            "nmoe_grpo", "agora_2xh200", "qwen3_8b_sglang", "nmoe_8xb200"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_validates(path):
    config = resolve(load(path).get_config())
    sft = "scripts/sft.py --config=configs/" + path.stem in load(path).__doc__
    refuse_settings(config, fine_tuning if sft else training)
    make_policy_objective(config.algorithm, config.critic, config.moe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_its_command_its_hardware_and_what_to_expect(path):
    document = load(path).__doc__
    assert f"--config=configs/{path.stem}.py" in document
    assert "Hardware:" in document or "Memory:" in document
    assert "What to expect:" in document or "What happens:" in document


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_paths_in_a_recipe_follow_its_run_dir(path):
    settings = load(path).get_config()
    old = settings.run_dir
    settings.run_dir = "elsewhere"
    assert old not in str(settings)
