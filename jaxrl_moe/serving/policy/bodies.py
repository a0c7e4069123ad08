"""What clients may say of a policy that they have asked: its key, and how its turns are drawn."""
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, model_validator

from jaxrl_moe.paths import shortened
from jaxrl_moe.serving.http.bodies import Strict
from jaxrl_moe.spelling import did_you_mean


class Nearest(Strict):
    """Of a field that is not known, the nearest is named."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"the field {shortened(str(key))} is not known here."
                                 f"{did_you_mean(str(key), cls.model_fields)}")
        return values


def _fits_a_header(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it has spaces, control characters or letters beyond ASCII, which HTTP headers "
                         "cannot hold")
    return key


ApiKey = Annotated[SecretStr, AfterValidator(_fits_a_header)]


class SamplingBody(Nearest):
    """How turns are drawn; what is absent is the policy server's own choice."""
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, lt=1)
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    seed: int | None = Field(None, ge=-2**63, lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None

    @property
    def wishes(self) -> dict[str, Any]:
        """What goes into each request beside the model and the messages."""
        return self.model_dump(include=set(SamplingBody.model_fields), exclude_none=True)
