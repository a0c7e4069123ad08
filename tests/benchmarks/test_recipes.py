"""Recipes as benchmarks name them."""
import pytest

from benchmarks import plan, recipes
from jaxrl_moe.config import ConfigError


@pytest.mark.parametrize("name", ["gsm8k/gspo", "gspo"])
def test_a_recipe_is_named_with_its_folder_or_without_where_that_leaves_one(name):
    assert recipes.load(name).algorithm.loss == "gspo"


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'gsp' is named.*gsm8k/gspo"):
        recipes.load("gsp")


def test_a_plan_is_made_of_a_recipe_on_another_mesh():
    assert plan.recipe("gsm8k/grpo", {"fsdp": 2}, {}).mesh.fsdp == 2
