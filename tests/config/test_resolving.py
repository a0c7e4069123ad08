"""A setting has the type that it says, or is refused: no text,
truth value or infinity is made into a number."""
import math

import pytest

from jaxrl_moe.config import ConfigError, base, known_fields, resolve, value_of

FIELDS = known_fields()
WRONG = {
    int: [True, False, 1.0, 1.5, "1", "", None, [1], (1,), {}, math.nan, math.inf, 2**63, 10**400, b"1", 1j],
    float: [True, False, "1.0", "nan", "", None, [1.0], {}, math.nan, math.inf, -math.inf, 10**400,
            -10**400, 1j],
    bool: [0, 1, 0.0, 1.0, "true", "false", "", None, [True], {}, math.nan],
    str: [0, 1, 1.5, True, None, ["a"], ("a",), {}, b"a", math.nan],
    tuple[str, ...]: [0, 1, True, None, [1], ["a", None], ["a", True], [["a"]], {"a": 1}, {"a"}, b"a", [b"a"],
                      [math.nan], [""]],
    tuple[int, ...]: [0, 1.5, True, None, [True], [None], [1.0], [[1]], {1: 1}, {1}, "1,a", "1.5", "1,nan",
                      [math.nan], [math.inf], ["1", "b"], [1j], [0], "3,0", [-1]],
    tuple[float, ...]: [0, 1.5, True, None, [True], [None], [[1.0]], {1.0: 1}, {1.0}, "1,nan,1", "1,inf,1",
                        "1e400,1",
                        [math.nan], [math.inf], [10**400], "1,true", "1,a", ["1", "b"], [1j]]}
VALUES = [(key, value) for key, field in FIELDS.items() for value in WRONG[field.type]]


def resolved(key, value):
    section, _, name = key.rpartition(".")
    return resolve({section: {name: value}} if section else {name: value})


def test_every_setting_is_of_a_type_that_is_tried():
    assert {field.type for field in FIELDS.values()} == set(WRONG)


def test_a_value_of_another_type_or_none_that_is_finite_is_refused_for_every_setting():
    for key, value in VALUES:
        with pytest.raises(ConfigError) as refused:
            resolved(key, value)
            pytest.fail(f"{key} = {value!r} is taken")
        assert str(refused.value).startswith(key), (key, value, refused.value)


@pytest.mark.parametrize("key, value, told", [
    ("lora.alpha", math.inf, "lora.alpha = inf is not finite: it must be more than 0."),
    ("algorithm.kl_coef", math.nan, "algorithm.kl_coef = nan is not finite: it must be at least 0."),
    ("algorithm.gamma", 10**400, "algorithm.gamma = inf is not finite: it must be between 0 and 1."),
    ("algorithm.reward_blend", (1.0, math.inf, 1.0),
     "algorithm.reward_blend = 1.0,inf,1.0 is not finite: it must be "
     "a finite number."),
    ("lora.rank", 2**63, "lora.rank = 9223372036854775808 is out of range: it must be below 2^63."),
    ("train.pack", 1, "train.pack = 1 is of type int; it must be a bool: give one, "
     "such as the default True."),
    ("lora.targets", [1],
     r"lora.targets = [1] cannot be read: give values of type str with commas between.")])
def test_what_is_refused_is_told_with_its_mend(key, value, told):
    with pytest.raises(ConfigError) as refused:
        resolved(key, value)
    assert str(refused.value) == told


@pytest.mark.parametrize("key, value, becomes", [
    ("lora.alpha", 8, 8.0), ("algorithm.kl_coef", -0.0, 0.0), ("algorithm.kl_coef", 0, 0.0), ("seed", 0, 0),
    ("algorithm.reward_blend", [1, 0.5, -0.0], (1.0, 0.5, 0.0)), ("algorithm.reward_blend", "1, 0.5,-1",
                                                                  (1.0, 0.5, -1.0)),
    ("algorithm.reward_blend", ("1", "2", "3"), (1.0, 2.0, 3.0)), ("algorithm.reward_blend", [], ()),
    ("lora.targets", ["q_proj"], ("q_proj",)), ("lora.targets", "", ()), ("kl", 0, None)])
def test_what_is_taken_has_its_setting_s_type(key, value, becomes):
    if key not in FIELDS:
        with pytest.raises(ConfigError, match="no setting 'kl'"):
            resolved(key, value)
        return
    found = value_of(resolved(key, value), key)
    assert found == becomes and type(found) is type(becomes)
    assert not isinstance(found, float) or math.copysign(1, found) == 1


def test_a_key_that_is_no_text_is_unknown():
    with pytest.raises(ConfigError, match="no setting '1'"):
        resolve({1: 2})
    with pytest.raises(ConfigError, match="no setting 'lora.None'"):
        resolve({"lora": {None: 2}})


def test_a_recipe_s_values_are_held_to_their_types():
    recipe = base()
    recipe.lora.alpha = math.inf
    recipe.algorithm.reward_blend = (True, 1.0, 1.0)
    recipe.lora.targets = None
    with pytest.raises(ConfigError) as refused:
        resolve(recipe)
    assert {problem.field for problem in refused.value.problems} == {
        "lora.alpha", "algorithm.reward_blend", "lora.targets"}
