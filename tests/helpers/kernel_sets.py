"""The package's problems and their solutions, as the judge takes them."""
import ast
import pathlib

from jaxrl_moe.envs.kernels.verdicts.trial import Judged

PROBLEMS = pathlib.Path(__file__).parents[2] / "jaxrl_moe" / "envs" / "kernels" / "problems"
NAMES = sorted(str(path.relative_to(PROBLEMS).with_suffix("")) for path in PROBLEMS.glob("level*/*.py"))


def problem(name):
    source = (PROBLEMS / f"{name}.py").read_text()
    values = {node.targets[0].id: node.value for node in ast.parse(source).body
              if isinstance(node, ast.Assign)}
    return Judged(source, (ast.literal_eval(values["SMALL"]), *ast.literal_eval(values["VARIANTS"])))


def solution(name):
    return (PROBLEMS / "solutions" / f"{name}.py").read_text()
