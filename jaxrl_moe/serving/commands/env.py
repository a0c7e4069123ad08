"""Serves the episodes of an environment over HTTP, as AgentGym's clients play them.

    python scripts/serve.py env --name=textcraft --port=8081
    python scripts/serve.py env --name="textcraft(recipes='small')" --port=8082

Needs the extras `serve` and `agents`: pip install -e ".[serve,agents]". GET /health says how many sessions
are open. SIGTERM ends it once the calls in flight are answered, and closes all sessions. A run plays them
with env.name="agentgym(env='textcraft', url='http://127.0.0.1:8081')". See docs/agents/servers.md.
"""
from jaxrl_moe.hosts.keys import key_of_file
from jaxrl_moe.options import define_number, define_text, define_texts
from jaxrl_moe.serving.commands import common

COMMON = common.define(port=8081)
NAME = define_text("name", "", "of the environment, with its settings in brackets, as in env.name (required)")
WIRE = define_text("wire", "", "as which of AgentGym's environments it is served: textcraft, babyai, "
                               "alfworld, sciworld or webshop; empty: as its name says")
SESSIONS = define_number("sessions", 256, "that may be open at once; more are refused", 1, 10_000)
IDLE = define_number("idle", 1800.0, "seconds after which a session that nobody uses expires", 0.1)
WORKERS = define_number("workers", 1, "processes that the sessions are spread over", 1, 256)
ALLOW_BASE_URL = define_texts("allow_base_url", "address under which POST /rollouts may call policies beside "
                              "loopback, as http://172.17.0.1:8001; may be given several times")
ROLLOUTS = define_number("rollouts", 64, "episodes of POST /rollouts at work at once; others wait for their "
                         "turn", 1, 10_000)
POLICY_TIMEOUT = define_number("policy_timeout", 600.0, "seconds that a turn of a policy may take", 0.1)
ROLLOUT_TIMEOUT = define_number("rollout_timeout", 3600.0, "seconds that a request of POST /rollouts may "
                                "take; what is not played by then is told as failed", 0.1)
REQUIRED = (NAME,)


def main() -> None:
    from jaxrl_moe.serving.envs import launch  # after the flags: without the extra it says so
    options = launch.EnvOptions(
        name=NAME.value, wire=WIRE.value, host=COMMON.host.value, port=COMMON.port.value,
        api_key=key_of_file(COMMON.key_file.value), sessions=SESSIONS.value, idle=IDLE.value,
        grace=COMMON.grace.value, allow_base_url=ALLOW_BASE_URL.value, rollouts=ROLLOUTS.value,
        policy_timeout=POLICY_TIMEOUT.value, rollout_timeout=ROLLOUT_TIMEOUT.value)
    if WORKERS.value == 1:
        launch.serve_env(options)
    else:
        from jaxrl_moe.serving.envs.workers.launch import serve_workers
        serve_workers(options, WORKERS.value)
