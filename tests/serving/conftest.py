"""A tiny random model behind a server in a thread on loopback, and the real openai client."""

import time

import pytest

import bridges
from jaxrl_moe.config import RolloutSection
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.serving import launch
from jaxrl_moe.serving.front import EngineFront
from tests.helpers.serving import serving
from tests.helpers.tiny_models import make_checkpoint, make_tokenizer

SETTINGS = RolloutSection(slots=4, page_size=64, max_tokens=64, decode_steps=4)
TEMPLATE = ("{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}{% endfor "
            "%}<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
            "{% for call in m.tool_calls or [] %}{{ call.function.name }}"
            "{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
            "{% if mood %}{{ mood }}{% endif %}")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A checkpoint whose chat template reads tools, calls and the variable `mood`."""
    path = tmp_path_factory.mktemp("serving") / "tiny"
    make_checkpoint(path, num_hidden_layers=2, max_position_embeddings=128)
    tokenizer = make_tokenizer(path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tokenizer(folder):
    return load_tokenizer(str(folder))


@pytest.fixture(scope="session")
def policy(folder):
    """(model with room for adapters of rank 4, what loads them)."""
    return launch.load_policy(launch.Options(model=str(folder), max_lora_rank=4), bridges)


@pytest.fixture(scope="session")
def engine(policy, tokenizer):
    """Compiled once. Tests that use it directly go through front.ask."""
    return JaxEngine(policy[0], SETTINGS, max_prompt_tokens=64, seed=3, eos_ids=tokenizer.eos_ids,
                     detokenise=tokenizer.decode)


@pytest.fixture(scope="session")
def front(engine):
    with EngineFront(engine) as front:
        yield front


@pytest.fixture(scope="session")
def server(front, tokenizer):
    with serving(front, tokenizer) as server:
        yield server


@pytest.fixture
def slow(engine, monkeypatch):
    """The shared engine, 50 ms slower a step."""
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: time.sleep(0.05) or step())
