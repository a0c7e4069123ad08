"""The benchmark of what episodes prefill."""
from benchmarks import episodes_kv
from benchmarks.episodes_kv import NEW, OBSERVATION, PROMPT, SAMPLES


def test_with_kept_pages_an_episode_prefills_each_token_at_most_once(monkeypatch):
    """Recomputing prefills every earlier turn again; the prompt is shared by its samples in both."""
    monkeypatch.setattr(episodes_kv, "EPISODES", SAMPLES)
    turns = 2
    tokens, recomputed, prefilled, reused = episodes_kv.measure(episodes_kv.make_engine(turns), turns)
    assert PROMPT + turns * OBSERVATION < tokens <= PROMPT + turns * (NEW + OBSERVATION)
    assert prefilled == (PROMPT - 1) / SAMPLES + (turns - 1) * OBSERVATION
    whole = prefilled + reused
    assert whole - turns * PROMPT / SAMPLES <= recomputed <= whole - (PROMPT - 1) / SAMPLES
    assert recomputed > 1.5 * prefilled
