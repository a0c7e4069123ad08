"""Where the room is entered: all that speaks against a start, found before its first expensive second and told together.

A check is a generator of Problems; a new subject adds a file, and a row here. What the settings and this process's own machine tell,
every process of a job finds by itself; files and the network, process 0 alone looks at, and tells the others.
"""
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from jaxrl_moe.checks import data, learner, machine, mesh, model, rollout, run_dir, servers, settings
from jaxrl_moe.checks.problems import packed, refuse, unpacked
from jaxrl_moe.checks.start import Start
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import Problem, UserError


@dataclasses.dataclass(frozen=True)
class Check:
    """One subject of one phase.

    Attributes:
      name: the line of scripts/verify_setup.py that it belongs to.
      problems: yields what is wrong.
      takes: beginnings of the fields that it takes for granted; where one of these is refused already, it is not asked.
    """
    name: str
    problems: Callable[[Start], Iterable[Problem]]
    takes: tuple[str, ...] = ()


HERE = (
    Check("settings", settings.problems),
    Check("versions", machine.package_problems),
    Check("devices", lambda start: machine.device_problems(start.config)))
ON_LEADER = (
    Check("model", model.problems, ("model.", "scratch.")),
    Check("model", lambda start: () if start.given else model.adapter_problems(start), ("model.", "scratch.", "lora.", "moe.")),
    Check("model", lambda start: () if start.given else model.critic_problems(start), ("model.", "scratch.", "critic.", "algorithm.adv")),
    Check("model", lambda start: () if start.given else learner.router_problems(start.config, start.model), ("model.", "scratch.", "moe.")),
    Check("mesh", lambda start: mesh.problems(start.config, _shape(start), start.lengths), ("mesh", "rollout_mesh", "scratch.")),
    Check("tokenizer", data.tokenizer_problems, ("model.",)),
    Check("data", data.problems, ("model.",)),
    Check("run_dir", run_dir.folder_problems, ("run_dir",)),
    Check("checkpoints", run_dir.earlier_problems, ("run_dir",)),
    Check("servers", lambda start: servers.machine_problems(start.config) if start.rl else (), ("rollout.backend", "servers.")),
    Check("endpoint", lambda start: rollout.endpoint_problems(start.config) if start.rl else (), ("endpoint.",)))


def before_run(start: Start) -> list[Problem]:
    """All that speaks against a start; the same list in every process, but for what one's own machine lacks. No model is loaded, and
    nothing is computed or written."""
    return [problem for problems in by_name(start).values() for problem in problems]


def refuse_before_run(start: Start) -> None:
    """Raises ConfigError with all that speaks against a start, in all processes of a job; warns of what may surprise."""
    run_dir.refuse_other_settings(start.recipe)
    refuse(before_run(start))
    if start.rl:
        rollout.warn_of_staleness(start.config)


def by_name(start: Start) -> dict[str, list[Problem]]:
    """{line of verify_setup: what is wrong there}, with an empty list where all is well. All processes of a job must call it."""
    found: dict[str, list[Problem]] = {check.name: [] for check in (*HERE, *ON_LEADER)}
    for check, problems in _asked(HERE, start, []):
        found[check.name] += problems
    known = [problem for problems in found.values() for problem in problems]
    told = hosts.from_leader(lambda: [[check.name, packed(problems)] for check, problems in _asked(ON_LEADER, start, known)])
    for name, problems in told:
        found[name] += unpacked(problems)
    return found


def here(start: Start) -> list[Problem]:
    """What the settings and this process's machine tell, without a file being read."""
    return [problem for _, problems in _asked(HERE, start, []) for problem in problems]


def _asked(checks: Sequence[Check], start: Start, known: Sequence[Problem]) -> list[tuple[Check, list[Problem]]]:
    """The checks with what they found; those that take something refused for granted found nothing more."""
    answers: list[tuple[Check, list[Problem]]] = []
    refused = [problem.field for problem in known]
    for check in checks:
        blocked = any(field.startswith(check.takes) for field in refused) if check.takes else False
        problems = [] if blocked else list(check.problems(start))
        answers.append((check, problems))
        refused += [problem.field for problem in problems]
    return answers


def _shape(start: Start) -> ModelConfig | None:
    """The model's shape, or None where it cannot be read."""
    try:
        return start.model
    except (UserError, OSError):
        return None
