"""Calls of the policy within a session: drawn as the run draws, from the tokens of the calls before them, and
recorded before the agent is answered."""
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence

import numpy as np

from jaxrl_moe.rollout.agents.session import SessionError, SessionFault
from jaxrl_moe.rollout.agents.sessions import AgentSessions
from jaxrl_moe.rollout.agents.tree import Call, Chat
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.openai.generation import Generation
from jaxrl_moe.serving.openai.protocol import ChatRequest, CompletionRequest, Sampling
from jaxrl_moe.serving.openai.service import Service, size_of
from jaxrl_moe.serving.sessions.talk import SessionTalk
from jaxrl_moe.types import Completion, Messages, Request, SamplingParams

STATUS = {SessionFault.UNKNOWN: 404, SessionFault.ENDED: 410, SessionFault.LIMIT: 400,
          SessionFault.CONTEXT: 400}


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Within it, what a session cannot do is refused as an agent is answered."""
    try:
        yield
    except SessionError as error:
        raise Refusal(STATUS[error.fault], str(error), code=error.fault.value) from error


class SessionCalls:
    """Admits the calls of sessions. All happens on the event loop's thread, but for the tokenising.

    Args:
      service: of the endpoint.
      sessions: of the run.
      history: what a turn sees of the turns before it, see TurnBridge.
      public_url: of the endpoint, as agents reach it; empty: as they did when they asked for a session.
    """

    def __init__(self, service: Service, sessions: AgentSessions, history: str, public_url: str = ""):
        self.service = service
        self.sessions = sessions
        self.public_url = public_url
        self._talk = SessionTalk(service.tokenizer, history)

    async def chat(self, number: str, body: ChatRequest) -> Generation:
        """Admits a call of .../chat/completions; raises Refusal or UserError."""
        calls = self._calls(number, body)
        with self.service.room_for(1) as stays:
            known = await self.service.prompts.run(self._talk.continued, body, calls, size=size_of(body))
            ids, before = known or (await self.service.rendered(body), None)
            limit = body.max_tokens or body.max_completion_tokens
            request = self._enter(number, body, ids, limit)

            async def drew(completion: Completion):
                chat = await self.service.prompts.run(self._talk.heard, body, before, request, completion,
                                                      self.service.readers, size=size_of(body))
                self._record(number, request, completion, lambda _: _after(before, chat), chat, None)
            return self._admit(number, "/v1/chat/completions", body, request, stays, drew)

    async def completions(self, number: str, body: CompletionRequest) -> Generation:
        """Admits a call of .../completions; raises Refusal or UserError."""
        calls = self._calls(number, body)
        if len(body.prompts) != 1:
            raise Refusal(400, f"A call of a session has one prompt, and this one has {len(body.prompts)}.",
                          param="prompt")
        (prompt,) = body.prompts
        text = prompt if isinstance(prompt, str) else None
        with self.service.room_for(1) as stays:
            ids = np.array(prompt, np.int32) if text is None else await self._encoded(text, calls)
            request = self._enter(number, body, ids, body.max_tokens)

            async def drew(completion: Completion):
                self._record(number, request, completion, lambda parent: self._rest(ids, parent), None, text)
            return self._admit(number, "/v1/completions", body, request, stays, drew)

    def _rest(self, ids: np.ndarray, parent: Call) -> Messages:
        """What a prompt says after the call that it goes on from."""
        rest = ids[len(parent.ids):]
        return ({"role": "user", "content": self.service.tokenizer.decode(rest)},) if len(rest) else ()

    async def _encoded(self, text: str, calls: Sequence[Call]) -> np.ndarray:
        prompts = self.service.prompts
        known = await prompts.run(self._talk.text_ids, text, calls, size=len(text))
        return await prompts.encode(text) if known is None else known

    def _calls(self, number: str, body: Sampling) -> list[Call]:
        """The calls of a session so far; raises Refusal for a call that it cannot take."""
        self.service.models.check(body.model)
        with refusing(), self.sessions.using(number) as session:
            _check_sampling(body, session.plan.params)
            return list(session.calls)

    def _enter(self, number: str, body: Sampling, ids: np.ndarray, max_tokens: int | None) -> Request:
        stop_ids, stops = self.service.stops(body)
        with refusing(), self.sessions.using(number) as session:
            return session.enter(ids, max_tokens, stop_ids, stops)

    def _admit(self, number: str, path: str, body: Sampling, request: Request, room: contextlib.ExitStack,
               drew: Callable[[Completion], Awaitable[None]]) -> Generation:
        left = functools.partial(self.sessions.left, number, request.turn)
        room.callback(left)
        origin = {"session": {name: getattr(request, name)
                              for name in ("stream", "sequence", "sample", "turn")}}

        async def drawn(completions: list[list[Completion]]):
            await drew(completions[0][0])
        generation = self.service.admit(path, body, [request], room, [origin], drawn)
        generation.when_drawn(left)  # its client may not read on
        return generation

    def _record(self, number: str, request: Request, completion: Completion,
                shown: Callable[[Call], Messages], chat: Chat | None, text: str | None) -> None:
        """Keeps a call; what is drawn for a session that is over by then is dropped."""
        with refusing(), self.sessions.using(number) as session:
            session.drew(request, completion, shown, chat, text)


def _check_sampling(body: Sampling, params: SamplingParams) -> None:
    """Raises Refusal for a wish that the tokens of a session cannot be drawn by, since they are trained
    on."""
    if body.n not in (None, 1):
        raise Refusal(400, f"n = {body.n}: a call of a session draws one sample.", param="n")
    if body.seed is not None:
        raise Refusal(400, "seed: the noise of a session is the run's own. Leave it out.", param="seed")
    for name in ("temperature", "top_p", "top_k", "min_p"):
        given = getattr(body, name)
        given = max(given, 0) if name == "top_k" and given is not None else given
        if given is not None and given != getattr(params, name):
            raise Refusal(400, f"{name} = {given:g}: the turns of a session are drawn as the run trains "
                          f"them, by {name} = {getattr(params, name):g}. Leave it out.", param=name)


def _after(before: Chat | None, chat: Chat | None) -> Messages:
    """What was said between the call before and this one."""
    if before is None or chat is None:
        return ()
    start = max(before.drawn) + 1
    return chat.messages[start:-1]
