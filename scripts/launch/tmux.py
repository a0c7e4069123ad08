"""Starts all that a run on kernels needs, in the windows of a tmux session: the evaluation server that its
task asks, a rollout buffer, and the training.

    python scripts/launch/tmux.py --config=configs/kernels/qwen3_8b_triton_grpo.py
    python scripts/launch/tmux.py --config=configs/kernels/qwen3_8b_triton_grpo.py --plain
    python scripts/launch/tmux.py --config=my_recipe.py --detach --session=kernels
    --kernels_option=--workers=4

Each is started once the one before answers GET /health. Where one ends, or by Ctrl-C or SIGTERM, all end, and
the exit code is that of the one that has failed, or of the training. Every other option is
scripts/train.py's. Each has a log of its own in logs/ of the run's folder. --plain needs no tmux. Keys come
by --api_key_file alone. See docs/kernels.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib
import shlex
import signal
import sys

from absl import flags

from bridges import dialects
from jaxrl_moe import cli
from jaxrl_moe.config import Config
from jaxrl_moe.options import (
    define_dry_run,
    define_number,
    define_path,
    define_switch,
    define_text,
    define_texts,
)
from jaxrl_moe.serving.windows import plan, session, words
from jaxrl_moe.serving.windows.supervisor import Supervisor, Teller, check_healthy

PLAIN = define_switch("plain", False, "whether it works without tmux: the logs alone show what is said")
DETACH = define_switch("detach", False, "whether the command ends once the session is there, which goes on")
SESSION = define_text("session", "jaxrl_kernels", "name of the tmux session and of its server's socket")
LOGS = define_path("logs", "", "folder of the logs; empty: logs in the run's folder")
BUFFER = define_switch("buffer", True, "whether a rollout buffer is started")
BUFFER_PORT = define_number("buffer_port", 8889, "that it listens on", 1, 65535)
KEY_FILE = define_path("api_key_file", "", "file with the API key of both servers; empty: they ask for none")
KERNELS_OPTION = define_texts("kernels_option", "of scripts/serve.py kernels, as --workers=4; may be given "
                                                "several "
                              "times")
BUFFER_OPTION = define_texts("buffer_option", "of scripts/serve.py buffer; may be given several times")
START_SECONDS = define_number("start_seconds", 600.0, "that each server may take until it answers", 1.0)
GRACE = define_number("grace", 120.0, "seconds that each has to end, before it is killed", 1.0)
REPORT = define_path("report", "", "file that process and exit code are written to, with --plain")
DRY_RUN = define_dry_run()
OWN = (PLAIN, DETACH, SESSION, LOGS, BUFFER, BUFFER_PORT, KEY_FILE, KERNELS_OPTION, BUFFER_OPTION,
       START_SECONDS,
       GRACE, REPORT, DRY_RUN)


def main(config: Config) -> None:
    training = words.without(sys.argv[1:], {each.name: flags.FLAGS[each.name].boolean for each in OWN})
    programs = plan.programs_of(config, plan.WindowOptions(
        pathlib.Path(__file__).resolve().parents[1], training, LOGS.value, BUFFER.value, BUFFER_PORT.value,
        KEY_FILE.value, KERNELS_OPTION.value,
        BUFFER_OPTION.value))
    if DRY_RUN.value:
        for program in programs:
            print(f"{program.name}: {shlex.join(program.command)} > {program.log}")
    elif PLAIN.value:
        sys.exit(supervise(config, programs))
    else:
        sys.exit(in_windows(programs))


def supervise(config: Config, programs: list[plan.Program]) -> int:
    """Runs them as children of this process."""
    if there := plan.elsewhere(config):
        check_healthy("The evaluation server", f"{there}/health")
    session.report(REPORT.value)
    with Teller(told_in(programs)) as say:
        supervisor = Supervisor(programs, start_seconds=START_SECONDS.value, grace=GRACE.value, say=say)
        code = supervisor.run()
    session.report(REPORT.value, code=code)
    return code


def told_in(programs: list[plan.Program]) -> pathlib.Path:
    """The log of what the supervisor says itself."""
    return programs[-1].log.with_name("launch.log").absolute()


def in_windows(programs: list[plan.Program]) -> int:
    """Runs them as --plain does, in a window of a session."""
    told = told_in(programs).with_suffix(".json")
    windows = session.Session(SESSION.value, told)
    said = told_in(programs).stat().st_size if told_in(programs).exists() else 0
    own = [word for word in sys.argv[1:] if not words.names(word, ["detach", "plain", "report"])]
    windows.start(programs, [sys.executable, "-u", sys.argv[0], *own, "--plain", f"--report={told}"])
    print(f"Started. Look at the windows by `{windows.attach}`; Ctrl-b n shows the next one, Ctrl-b d leaves "
          f"them.",
          flush=True)
    if DETACH.value:
        return 0
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: came.append(number))
    code = windows.wait(lambda: came[-1] if came else 0)
    print(told_in(programs).read_bytes()[said:].decode(errors="replace").rstrip())
    print(f"All have ended, with exit code {code}; the logs are in {told.parent}.", flush=True)
    return code


if __name__ == "__main__":
    cli.run(main, dialects=dialects.READERS)
