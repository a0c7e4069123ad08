"""The package's problems and their solutions, as the judge takes them."""
import pathlib

from jaxrl_moe.envs.kernels.problem_files import read
from jaxrl_moe.envs.kernels.verdicts.trial import Judged

PROBLEMS = pathlib.Path(__file__).parents[2] / "jaxrl_moe" / "envs" / "kernels" / "problems"
NAMES = sorted(str(path.relative_to(PROBLEMS).with_suffix("")) for path in PROBLEMS.glob("level*/*.py"))


def problem(name):
    source = (PROBLEMS / f"{name}.py").read_text()
    return Judged(source, read(source, name).sizes)


def solution(name):
    return (PROBLEMS / "solutions" / f"{name}.py").read_text()
