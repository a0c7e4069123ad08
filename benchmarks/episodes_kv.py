"""Tokens that an episode of several turns has prefilled, against a scheme that recomputes the whole
conversation at every turn.

Each turn is a request of its own: everything so far, and a scripted observation behind it. Several episodes
run at once, two of each prompt, and go on at their own pace, as completions end by chance. Both schemes draw
the same tokens, which is checked: they differ in whether the engine keeps keys and values after a request.
"""
import dataclasses

import numpy as np
from flax import nnx

from benchmarks.table import rows
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.types import Request, SamplingParams

TURNS = (2, 5, 10, 20)
EPISODES = 8
SAMPLES = 2       # of each prompt
PROMPT = 128
OBSERVATION = 24  # tokens
NEW = 32          # most tokens of a turn
VOCAB = 512
STOPS = 16        # of the vocabulary's ids end a turn
PAGE_SIZE = 32


@dataclasses.dataclass
class Conversation:
    """An episode as it goes: its tokens so far, and its turns left."""
    number: int
    ids: np.ndarray
    left: int
    turn: int = 0

    def request(self, params: SamplingParams) -> Request:
        return Request(self.ids, params, self.number // SAMPLES, turn=self.turn,
                       sample=self.number % SAMPLES)

    def go_on(self, drawn: np.ndarray) -> None:
        observation = scripted(self.number, self.turn)
        self.ids = np.concatenate([self.ids, drawn, observation]).astype(np.int32)
        self.turn += 1
        self.left -= 1


def scripted(episode: int, turn: int) -> np.ndarray:
    """What the environment says; it never ends a turn."""
    return np.random.default_rng((1, episode, turn)).integers(STOPS, VOCAB, OBSERVATION)


def play(engine: JaxEngine, turns: int, kept: bool) -> tuple[float, float, list[np.ndarray]]:
    """(prefilled, reused tokens of an episode on average, all tokens of each); without `kept` nothing stays
    after a request."""
    params = SamplingParams(max_tokens=NEW, stop_ids=tuple(range(STOPS)))
    prompts = np.random.default_rng(0).integers(STOPS, VOCAB, (EPISODES // SAMPLES, PROMPT)).astype(np.int32)
    episodes = [Conversation(number, prompts[number // SAMPLES], turns) for number in range(EPISODES)]
    engine.release()
    before = engine.stats()
    flying = {engine.submit(episode.request(params)): episode for episode in episodes}
    while flying:
        if not kept:
            engine.forget()
        for handle, (completion,) in engine.step().items():
            episode = flying.pop(handle)
            episode.go_on(completion.ids)
            if episode.left:
                flying[engine.submit(episode.request(params))] = episode
    prefilled, reused = (
        (engine.stats()[name] - before[name]) / EPISODES for name in ("prefill_tokens", "reused_tokens"))
    return prefilled, reused, [episode.ids for episode in episodes]


def make_engine(turns: int) -> JaxEngine:
    """Over a tiny random model, with room for every episode."""
    config = ModelConfig(family="qwen3_moe", vocab_size=VOCAB, hidden_size=64, num_layers=2, num_heads=4,
                         num_kv_heads=2, head_dim=16, intermediate_size=128, sparse_layers=(True, True),
                         windows=(0, 0), num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32,
                         initializer_range=0.2)
    settings = RolloutSection(slots=EPISODES, page_size=PAGE_SIZE, max_tokens=NEW, decode_steps=8)
    longest = PROMPT + turns * (NEW + OBSERVATION)
    return JaxEngine(Transformer(config, rngs=nnx.Rngs(0)), settings, max_prompt_tokens=longest)


def measure(engine: JaxEngine, turns: int) -> tuple[float, float, float, float]:
    """(tokens of an episode; prefilled by recomputing; prefilled and reused where pages are kept).

    Raises:
      RuntimeError: the two draw different tokens.
    """
    recomputed, _, expected = play(engine, turns, kept=False)
    prefilled, reused, drawn = play(engine, turns, kept=True)
    if not all(map(np.array_equal, drawn, expected)):
        raise RuntimeError(f"over {turns} turns, other tokens were drawn where keys and values are kept")
    return float(np.mean([len(ids) for ids in drawn])), recomputed, prefilled, reused


def table() -> str:
    engine = make_engine(max(TURNS))
    lines = []
    for turns in TURNS:
        tokens, recomputed, prefilled, reused = measure(engine, turns)
        lines.append((turns, f"{tokens:.0f}", f"{recomputed:.0f}", f"{prefilled:.0f}", f"{reused:.0f}",
                      f"**{prefilled / recomputed:.2f}**"))
    header = ("turns", "tokens of an episode", "prefilled, recomputing", "prefilled, kept", "reused", "ratio")
    return rows(header, lines) + (
        f"\nTokens of an episode, means over {EPISODES} at once, {SAMPLES} of each prompt of {PROMPT}; "
        f"turns of at most {NEW} tokens, observations of {OBSERVATION}, pages of {PAGE_SIZE}. Both schemes "
        "drew the same tokens; what requests of one moment begin with alike both compute once.\n")
