"""Recipes by their path: they find `configs.shared` and their neighbours, whatever the working directory."""
import contextlib
import importlib.machinery
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterator

_PACKAGE = "configs"
SHIPPED = pathlib.Path(__file__).resolve().parent.parent / _PACKAGE


@contextlib.contextmanager
def importable(path: str | pathlib.Path) -> Iterator[None]:
    """Within, `configs` is the folder of that name that the recipe at `path` lies in, then the shipped one.

    A folder or package elsewhere on the import path that is called `configs` too is not in the way: it comes
    last. Afterwards `configs` means again what it meant before.
    """
    before = _taken_out()
    package = _made([*_own(pathlib.Path(path)), SHIPPED, *_others()])
    sys.modules[_PACKAGE] = package
    try:
        _run_init(package)
        yield
    finally:
        _taken_out()
        sys.modules.update(before)


def load(path: str | pathlib.Path) -> types.ModuleType:
    """The module of the recipe at `path`, which need not lie in a folder `configs`."""
    path = pathlib.Path(path)
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with importable(path):
        spec.loader.exec_module(module)
    return module


def same_name(path: str) -> list[str]:
    """Shipped recipes that a missing path may mean: gsm8k_grpo.py, as grpo.py, is configs/gsm8k/grpo.py."""
    wanted = pathlib.Path(path).stem
    files = [file.relative_to(SHIPPED) for file in shipped()]
    return [f"{_PACKAGE}/{file}" for file in files if wanted in _names(file)]


def _names(file: pathlib.Path) -> tuple[str, str]:
    return file.stem, "_".join(file.with_suffix("").parts)


def shipped() -> list[pathlib.Path]:
    """The files of all recipes that come with the library, without the bases that they share."""
    return [file for file in sorted(SHIPPED.rglob("*.py")) if file.parent != SHIPPED / "shared"]


def _own(path: pathlib.Path) -> list[pathlib.Path]:
    """The nearest folder called configs above the recipe, if there is one."""
    return [folder for folder in path.resolve().parents if folder.name == _PACKAGE][:1]


def _others() -> list[pathlib.Path]:
    spec = importlib.machinery.PathFinder.find_spec(_PACKAGE)
    return [] if spec is None else [pathlib.Path(folder) for folder in spec.submodule_search_locations or ()]


def _made(folders: list[pathlib.Path]) -> types.ModuleType:
    package = types.ModuleType(_PACKAGE)
    package.__path__ = list(dict.fromkeys(map(str, folders)))
    return package


def _run_init(package: types.ModuleType) -> None:
    """Runs the __init__.py of the recipe's own folder, if it has one."""
    init = pathlib.Path(package.__path__[0]) / "__init__.py"
    if init.exists():
        package.__file__ = str(init)
        exec(compile(init.read_text(), str(init), "exec"), package.__dict__)  # as importing the folder would


def _taken_out() -> dict[str, types.ModuleType]:
    """Removes `configs` and all below it from the loaded modules, and returns them."""
    names = [name for name in sys.modules if name == _PACKAGE or name.startswith(_PACKAGE + ".")]
    return {name: sys.modules.pop(name) for name in names}
