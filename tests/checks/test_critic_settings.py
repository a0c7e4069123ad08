"""Settings of a critic: what no advantage would read is refused, and so is a critic that does not fit."""
import dataclasses
import types

import jax
import pytest
from flax import nnx

from jaxrl_moe.checks.sections.model import critic_problems
from jaxrl_moe.checks.start import fine_tuning, training
from jaxrl_moe.config import ConfigError, base, resolve
from jaxrl_moe.model.value_head import Critic, ValueHead
from tests.helpers.settings import refuse_settings


def config(**values):
    settings = base()
    values = {"model__path": "m", "data__path": "d", "env__name": "gsm8k"} | values
    settings.update_from_flattened_dict({key.replace("__", "."): value for key, value in values.items()})
    return resolve(settings)


@pytest.mark.parametrize(
    "values, message",
    [(dict(critic__learning_rate=1e-3),
      "critic.learning_rate = 0.001 has no effect.*'grpo' has no critic: .*gae, last_token_critic"),
     (dict(critic__coef=0.5), "critic.coef = 0.5 has no effect"),
     (dict(critic__clip=0.0), "critic.clip = 0.0 has no effect"),
     (dict(critic__train_trunk=False), "critic.train_trunk = False has no effect.*leave it at True"),
     (dict(critic__path="runs/a/adapter"), "critic.path = 'runs/a/adapter' has no effect"),
     (dict(algorithm__lam=0.95), "algorithm.lam = 0.95 has no effect"),
     (dict(algorithm__lam=0.95, algorithm__advantage="last_token_critic"),
      "is no generalised advantage estimation"),
     (dict(algorithm__gamma=0.9), "algorithm.gamma = 0.9 has no effect.*reinforce_pp or gae"),
     (dict(algorithm__truncated="bootstrap"),
      "algorithm.truncated = 'bootstrap' .*has no value a token: choose gae"),
     (dict(algorithm__truncated="bootstrap", algorithm__advantage="last_token_critic"),
      "has no value a token")])
def test_settings_that_no_advantage_reads_are_refused_with_the_reason(values, message):
    with pytest.raises(ConfigError, match=message):
        refuse_settings(config(**values))
    refuse_settings(config(**values, sft__path="x.jsonl", sft__steps=1), fine_tuning)


@pytest.mark.parametrize("values", [
    dict(algorithm__advantage="gae", algorithm__lam=0.95, algorithm__gamma=0.99,
         algorithm__truncated="bootstrap", critic__coef=0.5, rollout__group_size=1),
    dict(algorithm__advantage="last_token_critic", critic__train_trunk=False, critic__path="runs/a/adapter"),
    dict(algorithm__advantage="reinforce_pp", algorithm__gamma=0.9)
])
def test_settings_that_the_advantage_reads_are_taken(values):
    refuse_settings(config(**values))


def bridge(kind, size):
    head = nnx.eval_shape(lambda: ValueHead(size, rngs=nnx.Rngs(0)))
    return types.SimpleNamespace(load_critic=lambda path: Critic(head, kind),
                                 model_config=lambda path: types.SimpleNamespace(hidden_size=16))


def test_a_critic_to_start_from_must_fit_the_model_and_the_advantage():
    gae = config(algorithm__advantage="gae", critic__path="runs/a/adapter")
    assert not list(critic_problems(training(gae, bridge("token", 16))))
    [problem] = critic_problems(training(gae, bridge("token", 32)))
    assert "hidden states of 32 numbers, and those of 'm' have 16" in str(problem)
    [problem] = critic_problems(training(gae, bridge("last_token", 16)))
    assert "holds a 'last_token' critic, and algorithm.advantage = 'gae' needs a 'token' one" in str(problem)
    assert not list(
        critic_problems(training(dataclasses.replace(gae, critic=config().critic), bridge("token", 16))))


def test_a_critics_values_are_near_zero_at_first():
    head = ValueHead(64, rngs=nnx.Rngs(0))
    values = head(jax.random.normal(jax.random.key(1), (4, 8, 64)))
    assert values.shape == (4, 8) and 0 < abs(values).max() < 0.03
