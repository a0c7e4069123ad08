"""What is drawn -> the JSON of OpenAI's answers, whole or as a stream of events."""
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from jaxrl_moe.serving.openai.generation import Generation
from jaxrl_moe.serving.openai.pieces import Offsets
from jaxrl_moe.serving.openai.protocol import ChatRequest, CompletionRequest
from jaxrl_moe.serving.openai.reading import TAIL, Piece, Readers

Body = CompletionRequest | ChatRequest


class Answer:
    """The answer to one call."""

    def __init__(self, generation: Generation, body: Body, readers: Readers):
        self._generation = generation
        self._body = body
        self._created = int(time.time())
        self._chat = isinstance(body, ChatRequest)
        request = generation.requests[0]
        end = request.ids[-TAIL:].tolist() if self._chat and body.offers_tools else None
        self._samples = [readers.stream(request.params.stop_strings, end) for _ in generation.samples]
        self._begun = set()
        self._offsets = [Offsets(readers.pieces) for _ in generation.samples]

    async def whole(self) -> dict[str, Any]:
        """Waits for all samples."""
        async for _ in self._generation.chunks():
            pass
        pieces = [sample.piece(chunks) for sample, chunks in zip(self._samples, self._generation.samples)]
        kind = "chat.completion" if self._chat else "text_completion"
        return self._frame(kind, [self._choice(index, piece) for index, piece in enumerate(pieces)],
                           self._usage())

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """As tokens come: the chunks of the stream; the last one holds the usage, if that is asked for."""
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        options = self._body.stream_options
        usage = {"usage": None} if options and options.include_usage else {}
        async for index, chunk in self._generation.chunks():
            piece = self._samples[index].piece([chunk])
            if not (piece.content or piece.calls or piece.finish_reason or self._body.wants_logprobs
                    or self._body.return_token_ids):
                continue  # half a character, or what may become a stop string
            choice = self._delta(index, piece) if self._chat else self._choice(index, piece)
            yield self._frame(kind, [choice]) | usage
        if usage:
            yield self._frame(kind, [], self._usage())

    def _frame(self, kind: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None):
        frame = {
            "id": self._generation.id,
            "object": kind,
            "created": self._created,
            "model": self._body.model,
            "choices": choices
        }
        if self._chat and self._body.return_token_ids and not self._begun:
            frame["prompt_token_ids"] = self._generation.requests[0].ids.tolist()
        self._begun |= {choice["index"] for choice in choices}
        return frame if usage is None else frame | {"usage": usage}

    def _choice(self, index: int, piece: Piece):
        choice = {
            "index": index,
            "logprobs": self._logprobs(index, piece),
            "finish_reason": piece.finish_reason
        }
        if self._chat:
            message = {
                "role": "assistant",
                "content": piece.content if piece.content or not piece.calls else None
            }
            choice["message"] = message | self._calls(piece, 0, whole=True)
        else:
            choice["text"] = piece.content
            if self._body.return_token_ids and index not in self._begun:
                choice["prompt_token_ids"] = (
                    self._generation.requests[index // self._generation.n].ids.tolist())
        return choice | self._tokens(piece)

    def _delta(self, index: int, piece: Piece):
        delta = {} if index in self._begun else {"role": "assistant"}
        if piece.content or delta:
            delta["content"] = piece.content
        delta |= self._calls(piece, self._samples[index].called - len(piece.calls), whole=False)
        return {"index": index, "delta": delta, "logprobs": self._logprobs(index, piece),
                "finish_reason": piece.finish_reason} | self._tokens(piece)

    def _calls(self, piece: Piece, first: int, whole: bool):
        if not piece.calls:
            return {}
        return {"tool_calls": [({} if whole else {"index": first + position}) | {
            "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": call._asdict()}
            for position, call in enumerate(piece.calls)]}

    def _tokens(self, piece: Piece):
        if not self._body.return_token_ids:
            return {}
        return {"token_ids": _column(piece, "ids"), "policy_version": _column(piece, "policy_version")}

    def _logprobs(self, index: int, piece: Piece):
        if not self._body.wants_logprobs:
            return None
        tokens = self._offsets[index].add(_column(piece, "ids"))
        logprobs = _column(piece, "logprobs")
        if self._chat:
            return {
                "content": [{
                    "token": token.text,
                    "logprob": logprob,
                    "bytes": list(token.data),
                    "top_logprobs": []
                } for token, logprob in zip(tokens, logprobs)],
                "refusal": None
            }
        return {"tokens": [token.text for token in tokens], "token_logprobs": logprobs, "top_logprobs": None,
                "text_offset": [token.offset for token in tokens]}

    def _usage(self):
        prompt = self._generation.prompt_tokens
        drawn = self._generation.drawn_tokens
        return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


def _column(piece: Piece, name: str):
    return [value for chunk in piece.chunks for value in getattr(chunk, name).tolist()]


def sse(data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(data, allow_nan=False)}\n\n"
