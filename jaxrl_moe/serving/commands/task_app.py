"""Serves a task over HTTP whose episodes it plays itself: it asks the policy at the URL that a request names,
and a judge for what came of it.

    ENVIRONMENT_API_KEY=sk_env_... python scripts/serve.py task-app --name=agora_ex --port=8101 \\
        --judge_url=http://127.0.0.1:8103
    ENVIRONMENT_API_KEY=sk_env_... python scripts/serve.py task-app --name=agora_ex_text

`agora_ex` has pages of HTML written, and shows them in Chromium in a sandbox (Debian's packages bubblewrap
and chromium); people judge them. `agora_ex_ai_judge` is the same with a model as judge, on port 8102;
`agora_ex_text` has short texts written, and needs no browser. Without a judge the outcome is the share of
rules that are kept.

Needs the extras `serve` and `agents`: pip install -e ".[serve,agents]". Clients need one of the keys in
ENVIRONMENT_API_KEY and, with commas between, ENVIRONMENT_API_KEY_ALIASES; without any all calls but GET /
are refused. EAMES_JUDGE_URL is the judge's URL where --judge_url is empty. GROQ_API_KEY is not needed: the
policy is the run's own. Policies are called on loopback and under the addresses of --allow_policy. SIGTERM
ends it.
"""
import os

from jaxrl_moe.hosts.keys import key_of_setting
from jaxrl_moe.options import define_number, define_path, define_switch, define_text, define_texts
from jaxrl_moe.serving.commands import common

JUDGE_VARIABLE = "EAMES_JUDGE_URL"

COMMON = common.define(port=8101)
NAME = define_text("name", None, "agora_ex, agora_ex_ai_judge or agora_ex_text; with hyphens too (required)")
JUDGE_URL = define_text("judge_url", "", "of a judge server, as http://127.0.0.1:8103; empty: the variable "
                                         f"{JUDGE_VARIABLE}, or no judge")
JUDGE_KEY_ENV = define_text("judge_key_env", "", "environment variable with the judge server's API key")
JUDGE_PROVIDER = define_text("judge_provider", "", "model or human; empty: as the task's name says")
JUDGE_MODEL = define_text("judge_model", "", "that judges; empty: the judge server's own choice")
JUDGE_RUBRIC = define_text("judge_rubric", "", "id of a rubric that the judge server has; empty: the task's")
JUDGE_TURNS = define_switch("judge_turns", False, "whether the judge scores each turn too, in place of rules")
JUDGE_DEADLINE = define_number("judge_deadline", 0.0, "seconds that a judge's answer has; 0: any time")
JUDGE_ON_DEADLINE = define_text("judge_on_deadline", "drop", "what then: drop the rollout, or ask the model")
ALLOW_POLICY = define_texts("allow_policy", "address under which policies may be called beside loopback, "
                                            "as http://10.0.0.5:8000; may be given several times")
POLICY_TIMEOUT = define_number("policy_timeout", 600.0, "seconds that a call of a policy may take", 0.1)
ROLLOUTS = define_number("rollouts", 16, "at work at once; four times as many may wait, more are refused",
                         1, 1024)
BROWSER = define_path("browser", "", "Chromium's program; empty: where packages put it")
REQUIRED = (NAME,)


def main() -> None:
    from jaxrl_moe.serving.tasks import keys, launch  # after the flags: without the extra it says so
    from jaxrl_moe.serving.tasks.judging import JudgeOptions
    judge = JudgeOptions(
        url=JUDGE_URL.value or os.environ.get(JUDGE_VARIABLE, "").strip(),
        api_key=key_of_setting("judge_key_env", JUDGE_KEY_ENV.value, "the judge server"),
        provider=JUDGE_PROVIDER.value, model=JUDGE_MODEL.value, rubric_id=JUDGE_RUBRIC.value,
        turns=JUDGE_TURNS.value, deadline=JUDGE_DEADLINE.value, on_deadline=JUDGE_ON_DEADLINE.value)
    launch.serve_task_app(
        launch.TaskAppOptions(
            name=NAME.value, host=COMMON.host.value, port=COMMON.port.value if COMMON.port.present else None,
            keys=keys.keys_of(os.environ, COMMON.key_file.value), judge=judge,
            allow_policy=ALLOW_POLICY.value, policy_timeout=POLICY_TIMEOUT.value, rollouts=ROLLOUTS.value,
            browser=BROWSER.value, grace=COMMON.grace.value))
