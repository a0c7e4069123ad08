"""What a judge server says of itself, beside what is to be asked of it."""
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError


def check_served(who: str, told: Mapping[str, Any], *, provider: str = "", model: str = "",
                 rubric_id: str = "", late: str = "") -> None:
    """Raises UserError for what a server would refuse in each call. One that is not ours may tell nothing of
    it, and is believed to have all.

    Args:
      who: begins the message.
      told: the answer of its /health: `providers` and `rubrics` by name, the default provider first, and
        `models` of each provider.
      provider, model, rubric_id: what is asked for; empty: as it is set up.
      late: the provider that is asked once people are late; empty: none is.
    """
    providers = _names(told.get("providers"))
    models = told.get("models")
    for setting, name in (("judge_provider", provider), ("on_deadline", late)):
        if providers and name:
            _check(who, setting, name, providers)
    if providers and model and isinstance(models, dict):
        _check(who, "judge_model", model, _names(models.get(provider or providers[0])))
    rubrics = _names(told.get("rubrics"))
    if rubrics and rubric_id:
        _check(who, "rubric_id", rubric_id, rubrics)
    if len(rubrics) > 1 and not rubric_id:
        raise UserError(f"{who} has several rubrics, and rubric_id names none: set it to one of "
                        f"{', '.join(map(quoted, rubrics))}.")


def _check(who: str, setting: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        has = ", ".join(map(quoted, known)) or "none, as people judge"
        raise UserError(f"{setting} = {quoted(name)} is nothing that {who[:1].lower()}{who[1:]} has."
                        f"{did_you_mean(name, known)} It has: {has}.")


def _names(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
