"""Sections that say how completions are drawn, and by whom."""
import dataclasses

from jaxrl_moe.config.setting import setting

_BACKENDS = {"jax": "this process", "sglang": "servers of SGLang, see servers", "vllm": "servers of vLLM"}
_STRAGGLERS = {
    "carry": "wait for them",
    "cut": "end them as if the token limit had come (backend jax alone)",
    "abort": "draw them again from the start, once, then wait for them"}
_WEIGHT_SYNC = {
    "auto": "adapter if servers are known to take it, else delta, or stream where all weights are trained",
    "adapter": "the LoRA adapter alone",
    "disk": "all weights, adapters merged in, as a whole checkpoint",
    "stream": "all weights in buckets through shared memory",
    "delta": "likewise, but only tensors that changed",
    "distributed": "all weights in buckets, broadcast by torch.distributed"}
_IN_FLIGHT = {"resume": "they go on", "abort": "they are begun again where they stood"}


@dataclasses.dataclass(frozen=True)
class RolloutSection:
    """How completions are drawn.

    slots, page_size, kv_tokens, memory_fraction and decode_steps concern backend jax alone: servers have
    settings of their own for that.
    """
    prompts_per_step: int = setting(8, "prompts whose completions make one batch", at_least=1)
    group_size: int = setting(8, "completions of each prompt", at_least=1)
    max_tokens: int = setting(256, "longest completion", at_least=1, unit="tokens")
    temperature: float = setting(1.0, "of sampling; the log-probs are those of this temperature", above=0)
    top_p: float = setting(
        1.0, "draw from the likeliest tokens that have this share of the probability; 1: from all",
        above=0, at_most=1)
    top_k: int = setting(0, "draw from so many of the likeliest tokens; 0: from all",
                         at_least=0, unit="tokens")
    min_p: float = setting(
        0.0, "draw from tokens at least so likely, as a share of the likeliest one's probability; 0: "
        "from all", at_least=0, at_most=0.999999)
    stop_strings: tuple[str, ...] = setting(
        (), "texts that end a completion where they appear, each to the letter, as in ' Human:,###'; with a "
        r"comma or a line break, as in ('a, b', '\n\n')", kind="text", verbatim=True)
    backend: str = setting(
        "jax", "who draws the rollouts of RL; SFT's evaluations and scripts/evaluate.py draw in this "
        "process", choices=_BACKENDS)
    slots: int = setting(
        64, "sequences decoded at once, on all devices; rounded up to a multiple of the mesh's data x "
        "fsdp", at_least=1)
    page_size: int = setting(32, "tokens in a KV page, a power of two", at_least=1, unit="tokens")
    kv_tokens: int = setting(
        0, "room in the KV pool of each of the data x fsdp parts that a mesh splits the sequences into "
        "(on a single device: of the pool); 0: its slots x (longest prompt + max_tokens), as far as "
        "memory allows", at_least=0, unit="tokens")
    memory_fraction: float = setting(
        0.85, "of the device's free memory that the KV pool may take, where kv_tokens is 0",
        above=0, at_most=1)
    decode_steps: int = setting(16, "tokens drawn between two looks at the host", at_least=1, unit="tokens")
    dynamic_sampling: bool = setting(
        False, "keep only groups whose rewards differ, and draw further ones until the batch is full")
    max_rounds: int = setting(10, "of drawing for one batch under dynamic sampling", at_least=1)
    max_staleness: int = setting(
        0, "policy versions that a token may be behind the weights that it updates. 0: drawing, grading "
        "and updating take turns. Above, they overlap, and rollouts that are not done go on under the "
        "next weights; the same run then no longer gives the same bits", at_least=0)
    stragglers: str = setting(
        "carry", "what becomes of groups still being drawn when the bound of max_staleness wants them "
        "in the next batch, and it lacks nothing else", choices=_STRAGGLERS)
    graders: int = setting(
        8, "threads that grade; a task that cannot take several (it says so) has one",
        at_least=1, at_most=1024)


@dataclasses.dataclass(frozen=True)
class ServersSection:
    """The SGLang or vLLM servers of rollout.backend: given as URLs, or launched by the run."""
    urls: tuple[str, ...] = setting(
        (), "where they listen, such as http://host:30000, or a router of SGLang; empty: launch some",
        kind="text")
    python: str = setting("", "to launch: the Python of the environment that has SGLang or vLLM", kind="path")
    count: int = setting(1, "how many to launch", at_least=1)
    gpus: str = setting(
        "", 'CUDA_VISIBLE_DEVICES of each launched server, semicolons between: "2,3;4,5"; empty: as in '
        "this process", kind="text")
    flags: str = setting("", "further flags of launched servers, as on their command line", kind="text")
    start_timeout: float = setting(600.0, "time within which a server must be healthy",
                                   above=0, unit="seconds")
    api_key_env: str = setting("", "the environment variable that holds the servers' API key; empty: none",
                               kind="text")
    concurrency: int = setting(64, "requests in flight at each server", at_least=1)
    request_timeout: float = setting(
        600.0, "time within which an answer must be there; a server that takes longer counts as hanging",
        above=0, unit="seconds")
    wait: float = setting(600.0, "how long the run waits when no server is left, before it stops",
                          at_least=0, unit="seconds")
    weight_sync_backend: str = setting("auto", "how new weights reach the servers", choices=_WEIGHT_SYNC)
    sync_folder: str = setting(
        "", "where weights are left for the servers; empty: a RAM disk of this machine, for servers on "
        "it", kind="path")
    bucket_bytes: int = setting(
        256 * 10**6, "weights on their way at a time, under stream, delta and distributed",
        at_least=1, unit="bytes")
    in_flight: str = setting("resume", "what becomes of requests that all weights are replaced under",
                             choices=_IN_FLIGHT)
    tolerance: float = setting(
        0.0, "mean |log-prob difference| that the probe after a sync allows; 0: 1e-4, or 0.1 in "
        "bfloat16", at_least=0, unit="nats")

    def devices(self) -> list[str]:
        """CUDA_VISIBLE_DEVICES of each server to launch; empty: as in this process."""
        return self.gpus.split(";") if self.gpus else [""] * self.count


@dataclasses.dataclass(frozen=True)
class EndpointSection:
    """An OpenAI-compatible endpoint of the policy while it is trained, for environments and judges.

    They ask it by its URL (extra serve). Calls are recorded in run_dir/served.jsonl. They wait while the
    weights are updated, so that nothing which the update waits for may ask then. With calls among them a
    rollout's numbers agree to rounding, not bit for bit.
    """
    serve: bool = setting(False, "whether to serve it")
    host: str = setting("127.0.0.1", "address to listen on; one that others can reach needs an API key",
                        kind="text")
    port: int = setting(8000, "to listen on; 0: a free one", at_least=0, at_most=65535)
    api_key_env: str = setting(
        "", "the environment variable that holds the API key; needed where other machines can connect",
        kind="text")
    queue: int = setting(256, "samples that may wait; more are refused with 429", at_least=0)
    public_url: str = setting(
        "", "the endpoint's URL as agents reach it, where that is another than host and port say, as "
        "http://172.17.0.1:8000; for tasks whose episodes agents play", kind="text")
