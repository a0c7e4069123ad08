"""A candidate's file, run. Runs in the sandbox; needs Python alone."""
import importlib.util
import pathlib
import sys
import types


def imported(source: str, folder: pathlib.Path) -> types.ModuleType:
    """The module "candidate" of a text, which stands in a file too, as Triton reads kernels there.

    Raises:
      Exception: whatever it raises.
    """
    path = folder / "candidate.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("candidate", path)
    module = sys.modules["candidate"] = importlib.util.module_from_spec(spec)
    # The text itself is run, however its lines would be read from the file.
    exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102
    return module
