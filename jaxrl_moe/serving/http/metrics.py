"""The server's numbers in Prometheus' text format."""
from collections import Counter
from collections.abc import Iterator, Mapping

# engine statistic -> (kind, meaning)
ENGINE = {"tokens": ("counter", "tokens drawn"),
          "prefill_tokens": ("counter", "prompt tokens prefilled"),
          "reused_tokens": ("counter", "prompt tokens found prefilled"),
          "seconds": ("counter", "seconds of the engine at work"),
          "preemptions": ("counter", "samples sent back to the queue"),
          "compiles": ("counter", "programs compiled"),
          "occupancy": ("gauge", "mean share of slots at work"),
          "kv_bytes": ("gauge", "bytes of the KV pool on each device"),
          "kv_pages_used": ("gauge", "pages of the KV pool in use"),
          "kv_pages_kept": ("gauge", "pages of the KV pool kept for later requests")}


class Counters:
    """What became of the calls. One thread counts."""

    def __init__(self):
        self.refused = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.seconds: Counter[tuple[str, str]] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def call(self, path: str, outcome: str, seconds: float, prompt_tokens: int,
             completion_tokens: int) -> None:
        self.calls[path, outcome] += 1
        self.seconds[path, outcome] += seconds
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


def exposition(counters: Counters, engine: Mapping[str, float], in_flight: int, version: int,
               paused: bool) -> str:
    """All metrics, one a line under its # HELP and # TYPE."""
    lines = [*metric("requests_total", "counter", "calls that ended, by outcome", labelled(counters.calls)),
             *metric("request_seconds_total", "counter", "seconds that these calls took",
                     labelled(counters.seconds)),
             *metric("refused_total", "counter", "calls refused because the queue was full",
                     {"": counters.refused}),
             *metric("prompt_tokens_total", "counter", "prompt tokens of these calls",
                     {"": counters.prompt_tokens}),
             *metric("completion_tokens_total", "counter", "tokens drawn for these calls",
                     {"": counters.completion_tokens}),
             *metric("samples_in_flight", "gauge", "samples admitted and not done", {"": in_flight}),
             *metric("policy_version", "gauge", "version of the weights", {"": version}),
             *metric("paused", "gauge", "1 while an update holds the weights", {"": int(paused)})]
    for name, (kind, meaning) in ENGINE.items():
        lines += metric(f"engine_{name}" + ("_total" if kind == "counter" else ""), kind, meaning,
                        {"": engine[name]})
    return "\n".join(lines) + "\n"


def labelled(counts: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Counts by (path, outcome) as the labels of a metric."""
    return {
        f'{{path="{path}",outcome="{outcome}"}}': value for (path, outcome), value in sorted(counts.items())
    }


def metric(name: str, kind: str, meaning: str, values: Mapping[str, float]) -> Iterator[str]:
    """The lines of a metric: {labels: value}."""
    yield f"# HELP jaxrl_moe_{name} {meaning}"
    yield f"# TYPE jaxrl_moe_{name} {kind}"
    for labels, value in values.items():
        yield f"jaxrl_moe_{name}{labels} {value}"
