"""What a client may send. A field that is not here is refused, and so is a value that the engine cannot
honour."""
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_INT = 2**31 - 1
LEAST_TEMPERATURE = 0.01  # below, logits / T leave what float32 resolves; 0 is greedy

TokenId = Annotated[int, Field(ge=0, le=MOST_INT)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


def only(neutral: Any, reason: str) -> AfterValidator:
    """Accepts null and the value that changes nothing; refuses any other with the reason."""
    def check(value: Any):
        if value is not None and value != neutral:
            raise ValueError(f"only {neutral!r} is served: {reason}")
        return value
    return AfterValidator(check)


def is_text(string: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell."""
    return not any("\ud800" <= letter <= "\udfff" for letter in string)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    include_usage: bool = False


class Sampling(Strict):
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
    frequency_penalty: Annotated[float | None, only(0, "the engine draws without penalties")] = None
    presence_penalty: Annotated[float | None, only(0, "the engine draws without penalties")] = None
    repetition_penalty: Annotated[float | None, only(1, "the engine draws without penalties")] = None
    logit_bias: Annotated[dict[str, float] | None,
                          only({}, "the engine draws from the model's own logits")] = None
    store: Annotated[bool | None, only(False, "this server keeps no answers for later")] = None

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
    prompt: str | Ids | Annotated[list[str], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)]
    logprobs: Annotated[int | None, only(0, "the log-prob of the drawn token; the engine reports no other "
                                            "token's")] = None
    echo: Annotated[bool | None, only(False, "the prompt is not scored, and you have it")] = None
    suffix: Annotated[str | None, only("", "the model continues a prompt and fills no gaps")] = None
    best_of: Annotated[int | None, only(1, "ask for n completions and choose among them")] = None

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
    # with the next three, an answer of the openai client can be sent back as it is
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Annotated[bool | None, only(False, "the engine does not force a grammar on what it draws")] = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class ResponseFormat(Strict):
    type: Literal["text"]


class ChatRequest(Sampling):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_INT)
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, only(0, "the log-prob of the drawn token; the engine reports no "
                                                "other token's")] = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none"] | None = Field(None, description="the engine cannot force a call")
    parallel_tool_calls: Annotated[bool | None,
                                   only(True, "the engine cannot keep the model from several calls")] = None
    response_format: ResponseFormat | None = None
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


class LoadAdapter(Strict):
    lora_name: str = Field(min_length=1)
    lora_path: str = Field(min_length=1, description="a PEFT folder on the server's machine")
    load_inplace: bool = Field(False, description="replace the adapter of that name")


class UnloadAdapter(Strict):
    lora_name: str = Field(min_length=1)
