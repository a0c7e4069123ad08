"""Judges of kernels that say what a test lets them say, one of our problems with candidates for it, and
evaluation servers in threads on loopback."""
import contextlib
import threading

from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Verdict
from jaxrl_moe.serving.kernels.app import make_app
from jaxrl_moe.serving.kernels.service import KernelService
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError
from tests.helpers.kernel_sets import PROBLEMS

RELU = Judged((PROBLEMS / "level1/001_relu.py").read_text(), ({"ROWS": 1, "COLUMNS": 1},
                                                              {"ROWS": 5, "COLUMNS": 70}))
RIGHT = (PROBLEMS / "solutions/level1/001_relu.py").read_text()
WRONG = RIGHT.replace("x < 0.0, 0.0", "x < 0.0, 1.0")
VERDICT = Verdict(Basis.INTERPRETER, compiled=True, correct=True, trials=5, target="sm_90")


class ScriptedWorker:
    """Says VERDICT, or what `said` has for a source, which is an exception or a verdict.

    Attributes:
      asked: (problem, source, seed, trials), in order.
      door: what a verdict waits for; set at first.
      most: verdicts that were at work at once.
    """

    def __init__(self, gpu="", said=()):
        self.gpu = gpu
        self.said = dict(said)
        self.asked = []
        self.door = threading.Event()
        self.door.set()
        self.started = self.renewed = self.closed = self.most = 0
        self._at_work = 0

    def start(self):
        self.started += 1

    def verdict(self, problem, source, seed, trials):
        self.asked.append((problem, source, seed, trials))
        self._at_work += 1
        self.most = max(self.most, self._at_work)
        try:
            assert self.door.wait(20)
        finally:
            self._at_work -= 1
        if self.closed:
            raise UserError("The judge is closed.")
        said = self.said.get(source, VERDICT)
        if isinstance(said, Exception):
            raise said
        return said

    def renew(self):
        self.renewed += 1

    def close(self):
        self.closed += 1
        self.door.set()


@contextlib.contextmanager
def scripted_pool(*workers):
    with contextlib.closing(Pool(len(workers), make=lambda number: workers[number])) as pool:
        yield pool


VERSIONS = {"torch": "2.13.0", "triton": "3.9.0"}


@contextlib.contextmanager
def kernel_server(*workers, api_key="", port=0, **options):
    """(url, what is served) of a server with such workers."""
    pool = Pool(len(workers), make=lambda number: workers[number])
    service = KernelService(pool, VERSIONS, **options)
    with HttpServer(service, make_app, api_key=api_key, port=port, grace=1) as server:
        yield server.url, service


def eval_body(source=RIGHT, problem=RELU, **fields):
    """A body of POST /eval."""
    return {"original_model_src": problem.source, "custom_model_src": source,
            "sizes": [dict(each) for each in problem.sizes], **fields}
