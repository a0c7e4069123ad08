"""What an evaluation server serves: the pool, and what it has said before."""
import asyncio
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping

from jaxrl_moe import __version__
from jaxrl_moe.envs.kernels.verdicts.client import NO_GPU
from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.envs.kernels.verdicts.told import heard, said
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.judges.kept import KeptVerdicts
from jaxrl_moe.serving.http.errors import Refusal
from jaxrl_moe.serving.kernels.bodies import EvalBody
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import EnvError

AGAIN_SECONDS = "1"  # after which a client may ask a server again that had no room
_PASSING = frozenset({Fault.TIMED_OUT})  # faults that rest on the machine's load too, and are not kept


class KernelService:
    """The event loop's thread calls it; candidates are judged in threads, one for each worker.

    Args:
      pool: who judges; it is closed with the service.
      versions: {package: version} of what candidates run with.
      queue: candidates that may wait beyond those that are judged at once.
      cache: SQLite file for verdicts, which outlives the process; empty: they are kept in memory.

    Attributes:
      answers: {(fault or "none", "judged", "shared" with an equal call or "kept"): how many}.
      seconds: of the verdicts that were judged, in all.
    """

    def __init__(self, pool: Pool, versions: Mapping[str, str], *, queue: int = 256, cache: str = ""):
        self.pool = pool
        self.versions = dict(versions)
        self.answers: collections.Counter[tuple[str, str]] = collections.Counter()
        self.seconds = 0.0
        self.renewed = 0
        self._queue = queue
        try:
            self._kept = KeptVerdicts(cache, said, heard)
        except BaseException:
            pool.close()
            raise
        self._at_work: dict[str, asyncio.Future[tuple[Verdict, float]]] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(len(pool.workers), "kernels")
        self._others = concurrent.futures.ThreadPoolExecutor(1, "kernel workers")

    @property
    def basis(self) -> Basis:
        """What its verdicts rest on, of candidates that are run."""
        return Basis.DEVICE if self.pool.gpus else Basis.INTERPRETER

    @property
    def held(self) -> int:
        """Candidates that are judged, or wait for it."""
        return len(self._at_work)

    async def eval(self, body: EvalBody) -> Verdict:
        """The verdict that is asked for: judged once, however many ask at once.

        Raises:
          Refusal: nobody can judge it so, or now.
          UserError: the problem's own file cannot be run.
        """
        timed = bool(self.pool.gpus) if body.measure_performance is None else body.measure_performance
        self._check(body, timed)
        trials = Trials(body.num_correct_trials, body.num_perf_trials if timed else 0)
        key = self._key(body, trials)
        kept = self._kept.get(key)
        if kept is not None:
            return self._counted(kept, "kept")
        how = "shared" if key in self._at_work else "judged"
        if how == "judged":
            self._begin(key, body, trials)
        try:
            verdict, _ = await asyncio.shield(self._at_work[key])
            return self._counted(verdict, how)
        except asyncio.CancelledError as error:  # after the grace that calls have at the server's end
            raise Refusal(503, "The server is ending; ask again.") from error
        except EnvError as error:
            raise Refusal(503, str(error), code="not_judged") from error

    async def renew(self) -> None:
        """Has all workers start their processes anew; candidates that are being judged are judged again."""
        self.renewed += 1
        await asyncio.get_running_loop().run_in_executor(self._others, self.pool.renew)

    def cleanup(self) -> int:
        """Forgets the verdicts that were kept; how many. What candidates write is gone with each of them."""
        return self._kept.clear()

    def close(self) -> None:
        self.pool.close()
        self._threads.shutdown(cancel_futures=True)
        self._others.shutdown()
        self._kept.close()

    def _check(self, body: EvalBody, timed: bool) -> None:
        if timed and not self.pool.gpus:
            raise Refusal(503, "measure_performance needs a GPU, and this server has none: it judges under "
                          "Triton's interpreter, which has no speed. Leave the field out, or start the "
                          "server where there is one, by --gpus.", param="measure_performance", code=NO_GPU)
        if body.gpu and body.gpu not in self.pool.gpus:
            there = ", ".join(self.pool.gpus) or "none"
            raise Refusal(400, f"preferred_device is {quoted(body.preferred_device)}, and there is no such "
                          f"GPU here; there is: {there}.", param="preferred_device")

    def _begin(self, key: str, body: EvalBody, trials: Trials) -> None:
        if len(self._at_work) >= self._queue + len(self.pool.workers):
            raise Refusal(429, f"{len(self._at_work)} candidates are being judged or wait, which is all "
                          "there is room for: ask again, or start the server with more --workers or a "
                          "longer --queue.",
                          headers={"Retry-After": AGAIN_SECONDS})
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._judged, key, body, trials)
        self._at_work[key] = future
        future.add_done_callback(lambda done: self._ended(key, done))

    def _judged(self, key: str, body: EvalBody, trials: Trials) -> tuple[Verdict, float]:
        began = time.monotonic()
        verdict = self.pool.verdict(body.problem, body.custom_model_src, body.seed_num, trials, body.gpu)
        if verdict.fault not in _PASSING:
            self._kept.put(key, verdict)
        return verdict, time.monotonic() - began

    def _ended(self, key: str, done: asyncio.Future) -> None:
        del self._at_work[key]
        if not done.cancelled() and done.exception() is None:
            self.seconds += done.result()[1]

    def _counted(self, verdict: Verdict, how: str) -> Verdict:
        self.answers[verdict.fault or "none", how] += 1
        return verdict

    def _key(self, body: EvalBody, trials: Trials) -> str:
        """Of all that a verdict depends on."""
        asked = [body.original_model_src, body.sizes, body.custom_model_src, body.seed_num,
                 body.torch_operators, dataclasses.astuple(trials), body.gpu, self.basis, self.versions,
                 __version__]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
