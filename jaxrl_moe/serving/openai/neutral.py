"""Fields of OpenAI's, vLLM's and SGLang's requests that this server does not serve: null, and the values that
change nothing, pass, since clients send them; any other is refused with the reason."""
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from jaxrl_moe.serving.http.bodies import Strict

_LOGITS = "the engine draws from the model's own logits"
GRAMMAR = "the engine does not force a grammar on what it draws"
_ENDS = "a completion ends at its end token, stop string or limit, and shows no stop string"
_TEXT = "text in, text out"
_SPECIAL = "the text of a completion has no special tokens; return_token_ids gives all of them"
_SEPARATE = "thoughts stay in the content"
_TEMPLATE = "send variables of the chat template in chat_template_kwargs"
_ONE = "this server has no such choice"
# name: (values that change nothing, why others are refused)
ROWS = {
    "frequency_penalty": ((0,), "the engine draws without penalties"),
    "presence_penalty": ((0,), "the engine draws without penalties"),
    "repetition_penalty": ((1,), "the engine draws without penalties"),
    "repetition_detection": ((), "the engine draws without penalties"),
    "logit_bias": (({},), _LOGITS),
    "allowed_token_ids": ((), _LOGITS),
    "bad_words": (([],), _LOGITS),
    "logits_processors": (([],), _LOGITS),
    "custom_logit_processor": ((), _LOGITS),
    "custom_params": (({},), _LOGITS),
    "use_beam_search": ((False,), "the engine draws, and does not search"),
    "length_penalty": ((1,), "the engine draws, and does not search"),
    "early_stopping": ((False,), "the engine draws, and does not search"),
    "ignore_eos": ((False,), _ENDS),
    "min_tokens": ((0,), _ENDS),
    "include_stop_str_in_output": ((False,), _ENDS),
    "no_stop_trim": ((False,), _ENDS),
    "stop_regex": (([], ""), _ENDS),
    "skip_special_tokens": ((True,), _SPECIAL),
    "spaces_between_special_tokens": ((True,), _SPECIAL),
    "detokenize": ((True,), "answers have their text"),
    "add_special_tokens": ((False,), "a prompt gets no special tokens but those of the chat template"),
    "add_generation_prompt": ((True,), "a chat is answered by the assistant"),
    "truncate_prompt_tokens": ((), "a prompt is not cut; send a shorter one"),
    "prompt_logprobs": ((), "the prompt is not scored"),
    "logprob_start_len": ((-1,), "the prompt is not scored"),
    "return_hidden_states": ((False,), "answers have text, tokens and log-probs"),
    "return_tokens_as_token_ids": ((False,), "return_token_ids gives the ids"),
    "prompt_embeds": ((), _TEXT),
    "modalities": ((["text"],), _TEXT),
    "audio": ((), _TEXT),
    "mm_processor_kwargs": (({},), _TEXT),
    "web_search_options": ((), _TEXT),
    "documents": (([],), "put them into the messages"),
    "functions": (([],), "send tools"),
    "function_call": (("none", "auto"), "send tool_choice"),
    "chat_template": ((), "the model's own is used"),
    "reasoning": ((), _TEMPLATE),
    "reasoning_effort": ((), _TEMPLATE),
    "thinking": ((), _TEMPLATE),
    "enable_thinking": ((), _TEMPLATE),
    "verbosity": (("medium",), _TEMPLATE),
    "separate_reasoning": ((False,), _SEPARATE),
    "stream_reasoning": ((True,), _SEPARATE),
    "include_reasoning": ((True,), _SEPARATE),
    "prediction": ((), "the engine needs none"),
    "moderation": ((), _ONE),
    "prompt_cache_options": ((), _ONE),
    "service_tier": (("auto", "default"), _ONE),
    "priority": ((0,), "requests are drawn in the order in which they come"),
    "lora_path": ((), "model names what is drawn from"),
    "request_id": ((), "this server names its answers itself"),
    "rid": ((), "this server names its answers itself"),
    "store": ((False,), "this server keeps no answers for later"),
    "session_params": ((), _ONE),
    "kv_transfer_params": ((), _ONE),
    "vllm_xargs": (({},), _ONE),
    "bootstrap_host": ((), _ONE),
    "bootstrap_port": ((), _ONE),
    "bootstrap_room": ((), _ONE)}
ROWS |= dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar",
                       "guided_decoding_backend", "guided_whitespace_pattern", "structured_outputs", "regex",
                       "ebnf", "json_schema", "structural_tag"), ((), GRAMMAR))
LABELS = ("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "cache_salt", "extra_key")


def only(*neutral: Any, reason: str) -> AfterValidator:
    """Accepts null and the values that change nothing; refuses any other with the reason."""
    shown = " and ".join(map(repr, (*neutral, None)))

    def check(value: Any) -> Any:
        if value is not None and not any(_same(value, each) for each in neutral):
            raise ValueError(f"only {shown.replace('None', 'null')} is served: {reason}")
        return value
    return AfterValidator(check)


def _same(value: Any, neutral: Any) -> bool:
    """Equality under which true is no 1."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


_CHECKED = {name: (Annotated[Any, only(*neutral, reason=reason)], None)
            for name, (neutral, reason) in ROWS.items()}
_LABELS = dict.fromkeys(LABELS, (str | None, Field(None, description="changes nothing here")))
_METADATA = (dict[str, str] | None, Field(None, description="changes nothing here"))
Neutral = create_model("Neutral", __base__=Strict, metadata=_METADATA, **_CHECKED, **_LABELS)
