"""Where the room is entered: all that speaks against a start, told together before the first costly second.

A check is a generator of Problems; a new subject adds a file, and a row here. What the settings and this
process's own machine tell, every process of a job finds by itself; files and the network, process 0 alone
looks at, and tells the others.
"""
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from jaxrl_moe.checks import data, machine, run_dir, settings
from jaxrl_moe.checks.problems import packed, refuse, unpacked
from jaxrl_moe.checks.sections import mesh, model, rollout, servers
from jaxrl_moe.checks.start import Start
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.types import Problem, UserError


@dataclasses.dataclass(frozen=True)
class Check:
    """One subject.

    Attributes:
      name: the line of scripts/verify_setup.py that it belongs to.
      problems: yields what is wrong.
      takes: beginnings of the fields that it takes for granted; where one of these is refused already, it is
        not asked.
      reads: settings that name what it reads; what is on the hub is not asked for in vain, where the settings
        or this machine are refused already.
    """
    name: str
    problems: Callable[[Start], Iterable[Problem]]
    takes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("model.path",)


def _mesh(start: Start) -> Iterator[Problem]:
    yield from mesh.problems(start.config, _shape(start), start.lengths)


HERE = (
    Check("settings", settings.problems),
    Check("versions", machine.package_problems),
    Check("devices", machine.device_problems))
ON_LEADER = (
    Check("model", model.problems, ("model.", "scratch.")),
    Check("model", model.adapter_problems, ("model.", "scratch.", "lora.", "moe.")),
    Check("model", model.critic_problems, ("model.", "scratch.", "critic.", "algorithm.adv")),
    Check("model", model.router_problems, ("model.", "scratch.", "moe.")),
    Check("mesh", _mesh, ("mesh", "rollout_mesh", "scratch.")),
    Check("tokenizer", data.tokenizer_problems, ("model.",)),
    Check("data", data.problems, ("model.", "data.seeds", "data.eval_seeds", "data.weights", "data.generate"),
          ("model.path", "data.path", "data.files", "data.eval_path", "data.eval_files", "sft.path",
           "sft.files")),
    Check("run_dir", run_dir.folder_problems, ("run_dir",), ()),
    Check("run_dir", run_dir.output_problems, ("run_dir", "model.path"), ()),
    Check("run_dir", run_dir.own_problems, ("run_dir",), ()),
    Check("checkpoints", run_dir.earlier_problems, ("run_dir",), ()),
    Check("servers", servers.key_problems, ("rollout.backend", "servers."), ()),
    Check("servers", servers.way_problems,
          ("model.", "scratch.", "lora.", "moe.", "rollout.backend", "servers.")),
    Check("endpoint", rollout.endpoint_problems, ("endpoint.",), ()))


def before_run(start: Start) -> list[Problem]:
    """All that speaks against a start; the same list in every process, but for what one's own machine lacks.

    No model is loaded, and nothing is computed or written.
    """
    return [problem for problems in by_name(start).values() for problem in problems]


def refuse_before_run(start: Start) -> None:
    """Raises ConfigError with all that speaks against a start, in all processes of a job; may warn too."""
    run_dir.refuse_other_settings(start.recipe)
    refuse(before_run(start))
    if start.rl:
        rollout.warn_of_staleness(start.config)


def by_name(start: Start) -> dict[str, list[Problem]]:
    """{line of verify_setup: what is wrong there}, with an empty list where all is well.

    All processes of a job must call it.
    """
    lines: dict[str, list[Problem]] = {check.name: [] for check in (*HERE, *ON_LEADER)}
    for check, problems in _asked(HERE, start, []):
        lines[check.name] += problems
    known = [problem for problems in lines.values() for problem in problems]
    jax.devices()  # the processes of a job find their devices together, and process 0 needs them now
    for name, problems in hosts.from_leader(lambda: _of_leader(start, known)):
        lines[name] += unpacked(problems)
    return lines


def _of_leader(start: Start, known: Sequence[Problem]) -> list[list[Any]]:
    checks = [check for check in ON_LEADER if not known or not start.on_hub.intersection(check.reads)]
    return [[check.name, packed(problems)] for check, problems in _asked(checks, start, known)]


def here(start: Start) -> list[Problem]:
    """What the settings and this process's machine tell, without a file being read."""
    return [problem for _, problems in _asked(HERE, start, []) for problem in problems]


def _asked(checks: Sequence[Check], start: Start,
           known: Sequence[Problem]) -> list[tuple[Check, list[Problem]]]:
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
