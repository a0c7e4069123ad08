"""What a judge server serves: judges by their providers and models, and rubrics."""
import asyncio
import collections
import concurrent.futures
import time
from collections.abc import Callable, Mapping
from typing import Any

from jaxrl_moe.judges.ai import AiJudge
from jaxrl_moe.judges.judge import Judge, JudgeError, TakenBack
from jaxrl_moe.judges.records import verdict_plain, work_of
from jaxrl_moe.judges.rubric import Rubric, overridden, rubric_of
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.judges.bodies import ScoreBody, ScoreOptions
from jaxrl_moe.serving.judges.waiters import ItemWaiters
from jaxrl_moe.spelling import cut, did_you_mean, escaped, quoted

HOLD_SECONDS = 40.0   # that a score call of a model is held: less than the 45 that clients wait
MOST_HELD = 128       # calls that are held at once; others are answered with what there is
SLICE_SECONDS = 1.0   # of a call that is held, after which its client may have gone
THREADS = MOST_HELD + 32
LONGEST_REASON = 2000


class JudgeService:
    """Judges and rubrics. The event loop's thread calls it; the judges are called in threads.

    Args:
      judges: {provider: {model: judge}}; people are the model "". The first provider and the first model are
        taken where a client names none. They are closed with the service.
      rubrics: {id: rubric}.

    Attributes:
      answers: {(provider, status): how many}.
    """

    def __init__(self, judges: Mapping[str, Mapping[str, Judge]], rubrics: Mapping[str, Rubric]):
        self.judges = judges
        self.rubrics = rubrics
        self.answers: collections.Counter[tuple[str, str]] = collections.Counter()
        self.held = 0
        self._waiters = ItemWaiters()
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "judge server")

    def close(self) -> None:
        for models in self.judges.values():
            for judge in models.values():
                judge.close()
        self._threads.shutdown()

    async def score(self, body: ScoreBody, wait: float | None, gone: Callable[[], Any],
                    client: str = "") -> dict[str, Any]:
        """Hands a work in, and says what becomes of it within so many seconds; None: HOLD_SECONDS of a model,
        and none of people.

        Raises:
          Refusal, UserError: it cannot be judged so.
        """
        provider = self._provider(body.options)
        judge = self._judge(provider, body.options)
        ask = body.ask(self._rubric(body.options))
        if wait is None:
            wait = HOLD_SECONDS if isinstance(judge, AiJudge) else 0.0
        try:
            item = await self._in_thread(lambda: judge.submit(work_of(body.trace, "trace"), ask))
        except JudgeError as error:
            return self._counted(provider, failed_plain("", str(error)))
        try:
            answer = await self._answer(judge, provider, item, wait, gone, client)
        except TakenBack:  # by a client of another server; this one hands it in again when it asks for it
            answer = pending_plain(_name(provider, item))
        return self._counted(provider, answer)

    async def item(self, item: str, wait: float, gone: Callable[[], Any],
                   client: str = "") -> dict[str, Any]:
        """What has become of an item within so many seconds. Raises Refusal where there is no such item."""
        provider, _, own = item.partition(".")
        for judge in self.judges.get(provider, {}).values():
            try:
                return self._counted(provider, await self._answer(judge, provider, own, wait, gone, client))
            except TakenBack as error:
                raise Refusal(404, f"{error} Hand the work in again, and it is judged.") from error
            except KeyError:
                continue
        raise _unknown(item)

    async def drop(self, item: str, client: str) -> dict[str, Any]:
        """A client waits for an item no more; judges are spared it unless another one does. Raises Refusal
        where there is no such item."""
        provider, _, own = item.partition(".")
        last = self._waiters.leave(own, client)  # of people and of both together it is the same item
        for judge in self.judges.get(provider, {}).values():
            try:
                if last:
                    await self._in_thread(judge.drop, own, "nobody waits for it any more")
            except KeyError:
                continue
            return {"item": item, "waited_for": not last}
        raise _unknown(item)

    async def _answer(self, judge: Judge, provider: str, item: str, wait: float, gone: Callable[[], Any],
                      client: str) -> dict[str, Any]:
        """Where an item stands after so many seconds at most; KeyError: there is none, TakenBack: there is
        none any more. Clients know it by its provider too: two may ask the same people about it."""
        name = _name(provider, item)
        end = time.monotonic() + (wait if self.held < MOST_HELD else 0.0)
        self.held += 1
        try:
            while True:
                left = max(0.0, end - time.monotonic())
                verdict = await self._in_thread(judge.verdict, item, min(SLICE_SECONDS, left))
                if verdict is not None:
                    self._waiters.forget(item)
                    plain = verdict_plain(verdict)
                    plain["details"]["item"] = name
                    return plain
                self._waiters.wait(item, client)
                if time.monotonic() >= end or await gone():
                    return pending_plain(name)
        except TakenBack:
            raise
        except JudgeError as error:
            self._waiters.forget(item)
            return failed_plain(name, str(error))
        finally:
            self.held -= 1

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
            raise Refusal(503, "The server is ending; hand the work in again.") from error

    def _counted(self, provider: str, answer: dict[str, Any]) -> dict[str, Any]:
        self.answers[provider, answer["status"]] += 1
        return answer

    def _provider(self, options: ScoreOptions) -> str:
        name = options.provider or next(iter(self.judges))
        if name not in self.judges:
            raise Refusal(400, f"Nobody called {quoted(name)} judges here.{did_you_mean(name, self.judges)} "
                          f"There is: {', '.join(self.judges)}.", param="provider")
        return name

    def _judge(self, provider: str, options: ScoreOptions) -> Judge:
        models = self.judges[provider]
        name = options.model or next(iter(models))
        if name not in models:
            known = ", ".join(filter(None, models)) or "none, as people judge"
            raise Refusal(400, f"The provider {provider!r} has no model {quoted(name)}."
                          f"{did_you_mean(name, models)} It has: {known}.", param="model")
        judge = models[name]
        most = options.max_concurrency
        several = options.mode == "pairwise" and isinstance(judge, AiJudge)  # else a work needs one call
        if most and several and judge.concurrency > most:
            raise Refusal(400, f"max_concurrency = {most} is not kept: the server compares pairs with up to "
                          f"{judge.concurrency} calls at once. Start it with --concurrency={most}.",
                          param="max_concurrency")
        return judge

    def _rubric(self, options: ScoreOptions) -> Rubric:
        """The rubric that is named, or the only one, with what overrides it."""
        overrides = options.rubric_overrides or {}
        name = options.rubric_id
        if isinstance(overrides.get("criteria"), list):
            whole = rubric_of(overrides, "rubric_overrides")
            if name and name != whole.id:
                raise Refusal(400, f"rubric_id is {quoted(name)}, and rubric_overrides is the whole rubric "
                              f"{quoted(whole.id)}: name one.", param="rubric_id")
            return whole
        if not name and len(self.rubrics) == 1:
            [name] = self.rubrics
        known = ", ".join(self.rubrics)
        if not name:
            raise Refusal(400, f"rubric_id is needed; there is: {known}.", param="rubric_id")
        if name not in self.rubrics:
            raise Refusal(404, f"There is no rubric {quoted(name)}.{did_you_mean(name, self.rubrics)} There "
                          f"is: {known}.", param="rubric_id")
        return overridden(self.rubrics[name], overrides, "rubric_overrides")


def _name(provider: str, item: str) -> str:
    return f"{provider}.{item}"


def _unknown(item: str) -> Refusal:
    return Refusal(404, f"There is no item {quoted(item)} here. Hand the work in again: it is judged once.")


def pending_plain(item: str) -> dict[str, Any]:
    """The answer while there is no verdict."""
    return {"status": "pending", "event_rewards": [], "outcome_reward": {}, "details": {"item": item}}


def failed_plain(item: str, reason: str) -> dict[str, Any]:
    """The answer where there will be no verdict."""
    return {"status": "failed", "event_rewards": [], "outcome_reward": {},
            "details": {"item": item, "reason": cut(escaped(reason), LONGEST_REASON)}}
