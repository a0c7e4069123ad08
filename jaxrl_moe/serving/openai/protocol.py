"""What a client may send. A field that is not here is refused, and so is a value that the engine cannot
honour."""
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    FailFast,
    Field,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from jaxrl_moe.serving.http.bodies import Strict
from jaxrl_moe.serving.openai.neutral import GRAMMAR, Neutral, only

MOST_INT = 2**31 - 1
LEAST_TEMPERATURE = 0.01  # below, logits / T leave what float32 resolves; 0 is greedy

class FirstFault(FailFast):
    """Of a list's items, the first that is wrong is told; hashable, as unions need it."""
    __hash__ = object.__hash__


TokenId = Annotated[int, Field(ge=0, le=MOST_INT)]


def is_text(string: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell."""
    return not any("\ud800" <= letter <= "\udfff" for letter in string)


def _prompt(value: Any) -> Any:
    """A text, ids, or a list of either; looked at as a whole first, since there may be millions of ids."""
    kinds = set(map(type, value)) if isinstance(value, list) else {}
    if isinstance(value, str) or kinds == {str} or _are_ids(value):
        return value
    wrong = next((at for at, ids in enumerate(value) if not _are_ids(ids)), None) if kinds == {list} else ""
    if wrong is None:
        return value
    which = f"item {wrong}" if kinds == {list} else "it"
    raise ValueError(f"{which} must be a text, a list of token ids from 0 to {MOST_INT}, or a list of "
                     "either, and not empty")


def _are_ids(value: Any) -> bool:
    integers = isinstance(value, list) and set(map(type, value)) == {int}
    return integers and 0 <= min(value) <= max(value) <= MOST_INT


_PROMPT_SCHEMA = TypeAdapter(str | list[TokenId] | list[str] | list[list[TokenId]]).json_schema()
Prompt = Annotated[Any, AfterValidator(_prompt), WithJsonSchema(_PROMPT_SCHEMA)]


class StreamOptions(Strict):
    include_usage: bool | None = False
    include_obfuscation: Annotated[bool | None, only(False, reason="events are not padded")] = None
    continuous_usage_stats: Annotated[bool | None, only(False, reason="usage comes at the end")] = None


class ResponseFormat(Strict):
    type: Annotated[str, only("text", reason=GRAMMAR)]
    json_schema: None = None


class Sampling(Neutral):
    """What both endpoints share. top_k, min_p, stop_token_ids and return_token_ids extend OpenAI's, as in
    vLLM."""
    model: str
    max_tokens: int | None = Field(None, ge=1, le=MOST_INT)
    n: int | None = Field(None, ge=1, le=128)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=1e-6, le=1)
    top_k: int | None = Field(None, ge=-1, le=MOST_INT, description="-1 and 0: all tokens")
    min_p: float | None = Field(None, ge=0, lt=1)
    seed: int | None = Field(None, ge=-2**63, lt=2**64,
                             description="equal requests with equal seeds draw equal tokens")
    stop: str | list[str] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = Field(
        None, description="adds token ids, and the version of the weights that drew each")
    user: str | None = Field(None, description="recorded with the call")
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _few(cls, values: Any):
        """Of a hundred thousand unknown fields, each would be told."""
        if isinstance(values, dict) and len(values) > 2 * len(cls.model_fields):
            raise ValueError(f"{len(values)} fields are more than there are")
        return values

    @model_validator(mode="after")
    def _consistent(self):
        if self.temperature is not None and 0 < self.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"temperature must be 0 (greedy) or at least {LEAST_TEMPERATURE}")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if not all(self.stops) or len(self.stops) > 16 or not all(map(is_text, self.stops)):
            raise ValueError("stop takes at most 16 strings of Unicode text, none of them empty")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionRequest(Sampling):
    prompt: Prompt
    logprobs: Annotated[int | None, only(0, reason="the log-prob of the drawn token; the engine reports no "
                                                   "other token's")] = None
    echo: Annotated[bool | None, only(False, reason="the prompt is not scored, and you have it")] = None
    suffix: Annotated[str | None,
                      only("", reason="the model continues a prompt and fills no gaps")] = None
    best_of: int | None = None

    @field_validator("best_of")
    @classmethod
    def _all_of_best(cls, value: int | None, rest: ValidationInfo):
        if value not in (None, rest.data.get("n") or 1):
            raise ValueError("only n is served: ask for n completions and choose among them")
        return value

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        single = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return [self.prompt] if single else self.prompt


class TextPart(Strict):
    type: Literal["text"]
    text: str


class CalledFunction(Strict):
    name: str
    arguments: str = Field(description="a JSON object as text")


class CalledTool(Strict):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    type: Annotated[str | None, only("text", reason="lm-evaluation-harness sends it")] = None
    # with the next three, an answer of the openai client can be sent back as it is
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Annotated[bool | None, only(False, reason=GRAMMAR)] = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class ChatRequest(Sampling):
    messages: Annotated[list[Message], FirstFault()] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_INT)
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, only(0, reason="the log-prob of the drawn token; the engine "
                                                       "reports no other token's")] = None
    tools: Annotated[list[Tool], FirstFault()] | None = None
    tool_choice: Literal["auto", "none"] | None = Field(None, description="the engine cannot force a call")
    parallel_tool_calls: Annotated[bool | None,
                                   only(True, reason="the engine cannot keep the model from several "
                                                     "calls")] = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="variables of the chat template, as enable_thinking")
    add_generation_prompt: bool | None = Field(None, description="begin a turn of the assistant; by default "
                                                                 "unless the final message is continued")
    continue_final_message: bool | None = Field(
        None, description="leave the last message, the assistant's, open, and go on with it")

    @model_validator(mode="after")
    def _one_turn(self):
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError("continue_final_message goes on with the last message, and "
                             "add_generation_prompt begins another: set one of them")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise ValueError("continue_final_message needs a last message of the assistant")
        return self

    @model_validator(mode="after")
    def _one_limit(self):
        if None not in (self.max_tokens,
                        self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are two names of one limit, but differ")
        return self

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("a name has printable characters only, and no space at its ends")
    return name


AdapterName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]


class LoadAdapter(Strict):
    lora_name: AdapterName
    lora_path: str = Field(min_length=1, description="a PEFT folder on the server's machine")
    load_inplace: bool = Field(False, description="replace the adapter of that name")


class UnloadAdapter(Strict):
    lora_name: str = Field(min_length=1)
