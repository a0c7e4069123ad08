"""Serves a model, an environment, a task app, judges, verdicts on kernels, or a rollout buffer over HTTP; see
its commands' own --help.

    python scripts/serve.py --model=runs/quickstart/model
    python scripts/serve.py env --name=textcraft
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import importlib
import sys

from jaxrl_moe import cli, endings
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

# modules of jaxrl_moe.serving.commands, with a hyphen for each underscore
COMMANDS = ("model", "env", "task-app", "judge", "judge-page", "kernels", "buffer")


def taken_command() -> str:
    """Takes the command off the command line; without one it is a model that is served."""
    if not sys.argv[1:] or sys.argv[1].startswith("-"):
        return "model"
    name = sys.argv.pop(1)
    if name not in COMMANDS:
        error = UserError(f"There is nothing called {quoted(name)} to serve.{did_you_mean(name, COMMANDS)} "
                          f"Give one of {', '.join(COMMANDS)}, or options of the form --name=value.")
        sys.exit(endings.tell(error))
    return name


def main(name: str) -> None:
    """Runs a command."""
    command = importlib.import_module(f"jaxrl_moe.serving.commands.{name.replace('-', '_')}")

    def serve() -> None:
        cli.require(*command.REQUIRED)
        if name == "model":
            import bridges
            command.main(bridges)
        else:
            command.main()
    cli.run(serve, recipe=False, compiled=name == "model", document=command.__doc__)


if __name__ == "__main__":
    main(taken_command())
