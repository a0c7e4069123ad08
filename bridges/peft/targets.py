"""Which layers an adapter_config.json names, and with which rank and scale, by PEFT's rules
(peft.tuners.tuners_utils.check_target_module_exists and peft.utils.other.get_pattern_key, 0.21)."""
import math
import re
from collections.abc import Mapping
from typing import Any

from bridges.peft.adapter_config import AdapterConfig
from jaxrl_moe.expressions import Expressions

ALL_LINEAR = "all-linear"
LAYER = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")  # PEFT's: the first number in a name
PLAIN = re.compile(r"[\w.]+")  # a name is looked up, since there may be one for each layer


class Targets:
    """The layers that a configuration names, called as in the base model, such as
    model.layers.0.self_attn.q_proj; each method raises ExpressionError for an expression that is none, or
    that does not come to an end."""

    def __init__(self, config: AdapterConfig):
        self.config = config
        self._expressions = Expressions(str(config.path))
        self._ranks = _Settings(config.rank_pattern, self._expressions)
        self._alphas = _Settings(config.alpha_pattern, self._expressions)

    def __contains__(self, name: str) -> bool:
        """Whether the layer is to have an adapter. True where the file leaves it open."""
        config = self.config
        if self.names_parameter(f"{name}.weight"):
            return True
        if self._is(name, config.exclude_modules):
            return False
        targets = config.target_modules
        if targets is None:
            return False
        if isinstance(targets, str):
            return targets.lower() == ALL_LINEAR or self._is(name, targets)
        return name in targets or (self._is(name, targets) and self._in_layers(name))

    def names_parameter(self, name: str) -> bool:
        """Whether a parameter, such as model.layers.0.mlp.experts.down_proj, is to have an adapter."""
        return any(_ends(name, parameter) for parameter in self.config.target_parameters)

    def rank_and_scale(self, name: str) -> tuple[int, float]:
        """(R, what B A is multiplied by) of a layer, or of a parameter that has an adapter of its own."""
        rank = self._ranks.get(name, self.config.r)
        alpha = self._alphas.get(name, self.config.lora_alpha)
        return rank, alpha / (math.sqrt(rank) if self.config.use_rslora else rank)

    def _is(self, name: str, wanted: str | tuple[str, ...] | None) -> bool:
        if not wanted:
            return False
        if isinstance(wanted, str):
            return self._expressions.fullmatch(wanted, name) is not None
        return any(_ends(name, each) for each in wanted)

    def _in_layers(self, name: str) -> bool:
        config = self.config
        if config.layers_to_transform is None:
            return True
        patterns = config.layers_pattern or ()
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        matches = (self._expressions.fullmatch(rf"(?:.*?\.)?{pattern}\.(?P<idx>\d+)\..*", name)
                   for pattern in patterns)
        match = next(filter(None, matches), None) if patterns else LAYER.match(name)
        return match is not None and int(match["idx"]) in config.layers_to_transform


class _Settings:
    """A rank_pattern or an alpha_pattern: the first that matches the end of a layer's name, from a dot on,
    holds."""

    def __init__(self, patterns: Mapping[str, Any], expressions: Expressions):
        self._values = list(patterns.values())
        self._plain = {pattern: row for row, pattern in enumerate(patterns) if PLAIN.fullmatch(pattern)}
        self._others = {row: rf"(.*\.)?({pattern})" for row, pattern in enumerate(patterns)
                        if pattern not in self._plain}
        self._expressions = expressions
        for pattern in self._others.values():
            expressions.compile(pattern)

    def get(self, name: str, default: Any) -> Any:
        parts = name.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        first = min((self._plain[end] for end in ends if end in self._plain), default=len(self._values))
        others = (row for row, pattern in self._others.items()
                  if row < first and self._expressions.fullmatch(pattern, name))
        first = next(others, first)
        return self._values[first] if first < len(self._values) else default


def _ends(name: str, wanted: str) -> bool:
    """Whether a name is what is wanted, or ends in it after a dot."""
    return name == wanted or name.endswith(f".{wanted}")
