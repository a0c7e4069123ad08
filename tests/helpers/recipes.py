"""The recipes of configs/, loaded as --config loads them."""
import importlib.util
import pathlib

RECIPES = sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
