"""Bodies of evaluation servers: never a server's error, and what is judged is what was asked, and nothing
else."""
import contextlib
import json
import pathlib
import random
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.told import heard
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.kernels.bodies import LONGEST_SOURCE, MOST_SHAPES, MOST_SIZE
from tests.fuzz.reading import Damaged, broken, strict, text, truth, whole
from tests.fuzz.runner import Wrong
from tests.fuzz.targets.http import HttpTarget
from tests.fuzz.targets.serving import misshapen
from tests.helpers.kernel_workers import VERDICT, ScriptedWorker, kernel_server

LATE = Verdict(Basis.INTERPRETER, fault=Fault.TIMED_OUT, message="too long")
SOURCES = {"original_model_src": "class Model: pass", "custom_model_src": "class ModelNew: pass"}
BODIES: tuple[dict[str, Any], ...] = (
    SOURCES,
    SOURCES | {"seed_num": 42, "num_correct_trials": 5, "num_perf_trials": 100, "measure_performance": False,
               "preferred_device": None, "backend": "triton"},
    SOURCES | {"backend": "cuda", "sizes": [{"ROWS": 3, "COLUMNS": 0}, {}], "torch_operators": True},
    SOURCES | {"measure_performance": True, "preferred_device": 0, "num_perf_trials": 1},
    SOURCES | {"custom_model_src": "late"})
FOREIGN: tuple[dict[str, Any], ...] = (
    {"backend": "Triton"}, {"backend": None}, {"backend": "tilelang"}, {"seed_num": -1}, {"seed_num": 2**63},
    {"seed_num": 2**63 - 1}, {"seed_num": 1.0}, {"seed_num": True}, {"seed_num": "42"}, {"seed_num": 10**400},
    {"num_correct_trials": 0}, {"num_correct_trials": 101}, {"num_perf_trials": 0},
    {"num_perf_trials": 10**5},
    {"measure_performance": "true"}, {"measure_performance": 1}, {"measure_performance": None},
    {"preferred_device": -1}, {"preferred_device": 1}, {"preferred_device": "cuda:0"},
    {"preferred_device": "cuda:1"}, {"preferred_device": ""}, {"preferred_device": "\ud800"},
    {"preferred_device": True}, {"preferred_device": 10**30}, {"preferred_device": [0]}, {"verbose": True},
    {"sizes": None}, {"sizes": [{}] * (MOST_SHAPES + 1)}, {"sizes": [{"A": MOST_SIZE + 1}]},
    {"sizes": [{"A": -1}]}, {"sizes": [{"A": True}]}, {"sizes": [{"": 1}]}, {"sizes": [{"\ud800": 1}]},
    {"sizes": {"A": 1}}, {"sizes": [[1]]}, {"custom_model_src": ""}, {"custom_model_src": "\0"},
    {"custom_model_src": "\ud800"}, {"custom_model_src": "x" * (LONGEST_SOURCE + 1)},
    {"custom_model_src": "(" * 100_000}, {"custom_model_src": None}, {"original_model_src": ["x"]},
    {"torch_operators": 1}, {"gpu": 0}, {"trials": 5}, {"device": "cuda"}, {"eval_mode": "x"})
PATHS = ("/", "/eval", "/eval/", "/EVAL", "/eval?x=1", "/health", "/gpu_status", "/backend_info", "/metrics",
         "/reset_devices", "/cleanup", "//eval", "/docs", "/openapi.json", "/" + "a" * 3000)


def sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_SHAPES and all(
        isinstance(each, dict) and all(map(whole(0, MOST_SIZE), each.values())) for each in value)


RULES = {"original_model_src": text, "custom_model_src": text, "seed_num": whole(0, 2**63 - 1),
         "num_correct_trials": whole(1, 100), "num_perf_trials": whole(1, 10_000),
         "measure_performance": truth, "backend": lambda value: value in ("triton", "cuda"), "sizes": sizes,
         "torch_operators": truth, "preferred_device": lambda value: value in (0, "cuda:0", "") and
         not isinstance(value, bool)}


class KernelCalls(HttpTarget):
    """Requests to a server with a GPU that is none."""
    name = "kernels"
    loggers = (*HttpTarget.loggers, "asyncio")

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "notes.txt").write_text("nothing here is read")
        self.stack = contextlib.ExitStack()
        self.worker = ScriptedWorker("cuda:0", {"late": LATE})
        self.url, self.service = self.stack.enter_context(kernel_server(self.worker, api_key="key"))
        self.listen()
        self.request = "POST", "/eval", json.dumps(BODIES[0]).encode(), {}

    def close(self) -> None:
        self.deafen()
        self.stack.close()

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        return {}, self.mutated(rng, "/eval", rng.choice(BODIES), FOREIGN, lambda: PATHS)

    def call(self, arena):
        self.caught.error = None
        self.worker.asked.clear()
        self.service.cleanup()
        answer = self.send(self.url, *self.request)
        if self.caught.error is not None:
            raise self.caught.error
        if answer[0] >= 500 and answer[0] != 504:
            raise Wrong(f"status {answer[0]}", str(answer[2][:300]))
        return answer

    def judge(self, arena, result):
        status, kind, body = result
        method, path, data, _ = self.request
        if kind == "closed" or method == "HEAD" or status == 307:
            return ""
        evaluated = method == "POST" and path == "/eval"
        if status == 504 and evaluated:
            return _told(body, LATE) or self._judged(data)
        if status >= 400:
            return misshapen(status, kind, body) or (
                "a body that was refused was judged" if self.worker.asked else "")
        return (_told(body, VERDICT) or self._judged(data)) if evaluated else ""

    def _judged(self, data: bytes) -> str:
        """What is wrong with a body that was taken, or with what was asked of the worker."""
        try:
            sent = strict(data)
        except Damaged as error:
            return f"a damaged body was answered: {error}"
        if sent.keys() - RULES.keys():
            return f"a body with what nothing reads was taken: {str(sent)[:200]}"
        wrong = broken(sent, RULES)
        if wrong or len(self.worker.asked) != 1:
            return wrong or f"{len(self.worker.asked)} candidates were judged"
        problem, source, seed, trials = self.worker.asked[0]
        given = {"original_model_src": problem.source, "custom_model_src": source, "seed_num": seed,
                 "sizes": [dict(each) for each in problem.sizes], "num_correct_trials": trials.correct,
                 "torch_operators": problem.torch_operators}
        absent = {"seed_num": 42, "sizes": [], "num_correct_trials": 5, "torch_operators": False}
        timed = 0 if sent.get("measure_performance") is False else sent.get("num_perf_trials", 100)
        other = [name for name, value in given.items() if sent.get(name, absent.get(name)) != value]
        return f"other than asked: {other} {trials}" if other or trials.timed != timed else ""


def _told(body: bytes, verdict: Verdict) -> str:
    try:
        return "" if heard(json.loads(body)) == verdict else "another verdict than the worker's"
    except OutsideError as error:
        return f"no verdict: {error}"


TARGETS = (KernelCalls,)
