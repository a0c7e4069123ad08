"""Serves judges over HTTP: a model behind an OpenAI-compatible endpoint, people, or both.

    python scripts/serve.py judge --llm_url=http://127.0.0.1:8000/v1 --llm_model=gpt-oss-120b
    python scripts/serve.py judge --queue=sqlite:///judges.db --rubrics=my_rubrics/

Needs the extras `serve` and `agents`: pip install -e ".[serve,agents]". POST /api/judge/v1/score hands a work
in, GET /api/judge/v1/items/ITEM says what became of it. People judge on the page of `scripts/serve.py
judge-page` over the same queue. See docs/judges.md.
"""
from jaxrl_moe.hosts.keys import key_of_file, key_of_setting
from jaxrl_moe.options import define_number, define_path, define_switch, define_text, define_texts
from jaxrl_moe.serving.commands import common

COMMON = common.define(port=8103)
RUBRICS = define_path("rubrics", "", "JSON file with a rubric, or folder of such; empty: those of the "
                                     "library, agora_page and agora_text")
LLM_URL = define_text("llm_url", "", "OpenAI-compatible endpoint whose model judges, as "
                                     "http://127.0.0.1:8000/v1; empty: none does")
LLM_MODEL = define_text("llm_model", "gpt-oss-120b", "its model; several with commas between, of which a "
                                                     "client may name one")
LLM_KEY_ENV = define_text("llm_key_env", "", "environment variable with the endpoint's API key; empty: it "
                                             "has none")
LLM_TIMEOUT = define_number("llm_timeout", 45.0, "seconds that one call of the model may take", 0.1)
LLM_TEMPERATURE = define_number("llm_temperature", 0.0, "of the model; -1: the endpoint's own", -1, 100)
LLM_MAX_TOKENS = define_number("llm_max_tokens", 0, "of an answer; 0: as many as the endpoint lets it have")
LLM_PICTURES = define_switch("llm_pictures", False, "show the model pictures of pages, if it takes them")
CONCURRENCY = define_number("concurrency", 8, "calls of each model at once", 1, 1024)
CACHE = define_path("cache", "", "SQLite file that keeps the models' verdicts over restarts; empty: they are "
                                 "kept in memory")
QUEUE = define_text("queue", "", "SQLAlchemy URL of the queue that people judge from, as "
                                 "sqlite:///judges.db; empty: no people judge")
PROVIDER = define_text("provider", "", "who judges where a client does not say: model, human, or blended, "
                                       "which is both together; empty: the model, if there is one")
OVERLAP = define_number("overlap", 1, "people who answer each new question, of which scores are the mean", 1)
WEBHOOK = define_texts("webhook", "URL that is told of new items by a POST; may be given several times")
WEBHOOK_ALLOW = define_texts("webhook_allow", "address under which webhooks are called beside loopback, as "
                                              "https://hooks.example.org/jaxrl; may be given several times")
WEBHOOK_SECRET_ENV = define_text("webhook_secret_env", "", "environment variable with the secret that signs "
                                                           "webhooks; empty: they are not signed")
BLEND_DEADLINE = define_number("blend_deadline", 0.0, "seconds that people have where they and a model judge "
                                                      "together; 0: any time")
BLEND_ON_DEADLINE = define_text("blend_on_deadline", "wait", "what then: model, its verdict stands alone, or "
                                                             "drop, there is none; wait: no deadline")
BLEND_CALIBRATE = define_switch("blend_calibrate", False, "put the model's scores on people's scale first, "
                                                          "by the least squares line of both")
REQUIRED = ()


def main() -> None:
    from jaxrl_moe.serving.judges import launch  # after the flags: without the extra it says so
    launch.serve_judges(
        launch.JudgeServerOptions(
            rubrics=RUBRICS.value, llm_url=LLM_URL.value, llm_model=LLM_MODEL.value,
            llm_key=key_of_setting("--llm_key_env", LLM_KEY_ENV.value, "the judge's model"),
            llm_timeout=LLM_TIMEOUT.value, llm_temperature=LLM_TEMPERATURE.value,
            llm_max_tokens=LLM_MAX_TOKENS.value, llm_pictures=LLM_PICTURES.value,
            concurrency=CONCURRENCY.value, cache=CACHE.value, queue=QUEUE.value, provider=PROVIDER.value,
            overlap=OVERLAP.value, webhooks=WEBHOOK.value, webhook_allow=WEBHOOK_ALLOW.value,
            webhook_secret=key_of_setting("--webhook_secret_env", WEBHOOK_SECRET_ENV.value, "the webhooks"),
            blend_deadline=BLEND_DEADLINE.value, blend_on_deadline=BLEND_ON_DEADLINE.value,
            blend_calibrate=BLEND_CALIBRATE.value,
            host=COMMON.host.value, port=COMMON.port.value, api_key=key_of_file(COMMON.key_file.value),
            grace=COMMON.grace.value))
