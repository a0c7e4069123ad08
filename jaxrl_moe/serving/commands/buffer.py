"""Serves a rollout buffer over HTTP: episodes are written to it one by one, and read group by group.

    python scripts/serve.py buffer --path=runs/buffer.sqlite --group_size=4
    python scripts/serve.py buffer --path=runs/buffer.sqlite --task="gsm8k" --data=train.jsonl

Its routes are those of slime's rollout buffer: POST /start_rollout, /buffer/write, /buffer/read and
/get_rollout_data; GET /buffer/stats, /buffer/peek and /health. What was written outlives a kill, and no group
is handed out twice. With --task the server plays episodes itself once POST /start_rollout asks for them.
Needs the extras `serve` and `agents`: pip install -e ".[serve,agents]". SIGTERM ends it. See docs/kernels.md.
"""
from jaxrl_moe.hosts.keys import key_of_file, key_of_setting
from jaxrl_moe.options import define_number, define_path, define_text, define_texts
from jaxrl_moe.serving.commands import common

COMMON = common.define(port=8889)
PATH = define_path("path", "", "of the SQLite file that keeps the episodes, which is made if it is not there "
                               "(required)")
GROUP_SIZE = define_number("group_size", 0, "episodes of a group; 0: as POST /start_rollout says", 0, 4096)
GROUP_TIMEOUT = define_number("group_timeout", 300.0, "seconds after the last episode of a group, after "
                                                      "which no "
                              "further one is waited for", 0.1)
ACCEPTED_SHARE = define_number("accepted_share", 0.7, "of its size that a group must have then; one that has "
                                                      "less "
                               "is dropped", 0.0, 1.0)
KEEP = define_number("keep", 1000, "groups that were handed out whose conversations stay in the file; of "
                                   "older ones "
                     "the uids and rewards do")
TASK = define_text("task", "", "whose episodes POST /start_rollout plays, with its settings in brackets, as "
                               "in env.name; empty: it plays none")
TASK_TYPE = define_text("task_type", "", "as clients call the task, such as kernelbench_multiturn; empty: "
                                         "its name")
DATA = define_texts("data", "file of rows that POST /start_rollout may name as its input_file; may be given "
                            "several "
                    "times")
ALLOW_BASE_URL = define_texts("allow_base_url", "address under which policies may be called beside loopback, "
                                                "as "
                              "http://172.17.0.1:8001; may be given several times")
ROLLOUTS = define_number("rollouts", 64, "episodes at work at once", 1, 4096)
AHEAD = define_number("ahead", 64, "finished groups that may wait for their reader, before no further one "
                                   "begins", 1)
POLICY_MODEL = define_text("policy_model", "custom", "the model's name in calls of the policy's server")
POLICY_KEY_ENV = define_text("policy_key_env", "", "environment variable with the API key of the policy's "
                                                   "server; empty: it has none")
POLICY_TIMEOUT = define_number("policy_timeout", 600.0, "seconds that a turn of a policy may take", 0.1)
REQUIRED = (PATH,)


def main() -> None:
    from jaxrl_moe.serving.buffer import launch  # after the flags: without the extra it says so
    launch.serve_buffer(launch.BufferOptions(
        path=PATH.value, host=COMMON.host.value, port=COMMON.port.value,
        api_key=key_of_file(COMMON.key_file.value), grace=COMMON.grace.value, group_size=GROUP_SIZE.value,
        group_timeout=GROUP_TIMEOUT.value, accepted_share=ACCEPTED_SHARE.value, keep=KEEP.value,
        task=TASK.value,
        task_type=TASK_TYPE.value, data=DATA.value, allow_base_url=ALLOW_BASE_URL.value,
        rollouts=ROLLOUTS.value,
        ahead=AHEAD.value, policy_model=POLICY_MODEL.value,
        policy_key=key_of_setting("--policy_key_env", POLICY_KEY_ENV.value, "the policy's server"),
        policy_timeout=POLICY_TIMEOUT.value))
