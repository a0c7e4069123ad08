"""The shipped recipes, by their path under configs/ without its ending, as benchmarks name them."""
import importlib.util
import pathlib

from ml_collections import ConfigDict

from jaxrl_moe.config import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"


def path(name: str) -> pathlib.Path:
    """The file of a recipe.

    Raises:
      ConfigError: there is none.
    """
    file = CONFIGS / f"{name}.py"
    if not file.is_file():
        shipped = sorted(str(other.relative_to(CONFIGS).with_suffix("")) for other in CONFIGS.rglob("*.py"))
        raise ConfigError(f"The recipe {name!r} is named, and there is no {file}. Give names of recipes: "
                          f"{', '.join(shipped)}.")
    return file


def load(name: str) -> ConfigDict:
    """The settings of a recipe, which may be changed. Raises ConfigError: there is none of this name."""
    file = path(name)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def model_config(shape: str) -> str:
    """The path of a config.json of configs/shapes."""
    return str(CONFIGS / "shapes" / f"{shape}.json")
