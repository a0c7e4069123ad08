"""The shipped recipes, by their path under configs/ without its ending, as benchmarks name them."""
import pathlib

from ml_collections import ConfigDict

from jaxrl_moe import recipes
from jaxrl_moe.config import ConfigError


def path(name: str) -> pathlib.Path:
    """The file of a recipe, whose folder may be left out where that leaves one.

    Raises:
      ConfigError: there is none.
    """
    file = recipes.SHIPPED / f"{name}.py"
    meant = recipes.same_name(f"{name}.py")
    if not file.is_file() and len(meant) == 1:  # gspo is gsm8k/gspo
        return recipes.SHIPPED.parent / meant[0]
    if not file.is_file():
        names = [str(other.relative_to(recipes.SHIPPED).with_suffix("")) for other in recipes.shipped()]
        raise ConfigError(f"The recipe {name!r} is named, and there is no {file}. Give names of recipes: "
                          f"{', '.join(names)}.")
    return file


def load(name: str) -> ConfigDict:
    """The settings of a recipe, which may be changed. Raises ConfigError: there is none of this name."""
    return recipes.load(path(name)).get_config()


def model_config(shape: str) -> str:
    """The path of a config.json of configs/shapes."""
    return str(recipes.SHIPPED / "shapes" / f"{shape}.json")
