"""What a client of an evaluation server may send; a field that is not here is refused."""
from typing import Annotated, Literal

from pydantic import Field

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.serving.http.bodies import Strict

LONGEST_SOURCE = 2**20  # characters
MOST_SHAPES = 32
MOST_SIZE = 2**31 - 1
Source = Annotated[str, Field(max_length=LONGEST_SOURCE)]
Size = Annotated[int, Field(ge=0, le=MOST_SIZE)]
Sizes = Annotated[dict[Annotated[str, Field(max_length=120)], Size], Field(max_length=64)]


class EvalBody(Strict):
    """A candidate, and how it is to be judged. Clients of KernelBench's servers send these fields, but for
    the last two."""
    original_model_src: Source = Field(description="the problem's file, with Model, get_inputs and "
                                                   "get_init_inputs")
    custom_model_src: Source = Field(description="the candidate's, with ModelNew")
    seed_num: int = Field(42, ge=0, le=2**63 - 1, description="of weights, and with both sources of inputs")
    num_correct_trials: int = Field(5, ge=1, le=100, description="fresh inputs that it must be right for; "
                                                                 "at least one for each of the sizes")
    num_perf_trials: int = Field(100, ge=1, le=10_000, description="calls that are timed, where any are")
    measure_performance: bool | None = Field(None, description="whether it is timed, which needs a GPU; "
                                                               "absent: where the server has one")
    preferred_device: int | str | None = Field(None, description="the GPU that it is judged on, as 0 or "
                                                                 "cuda:0")
    backend: Literal["triton", "cuda"] = Field("triton", description="both mean kernels in Triton for "
                                               "NVIDIA's GPUs; no other language is judged")
    sizes: list[Sizes] = Field([], max_length=MOST_SHAPES, description="shapes that are tried: values of "
                               "the problem's module-level integers; none: the file's own")
    torch_operators: bool = Field(False, description="whether forward may compute by torch's operators "
                                                     "beside its kernels")

    @property
    def problem(self) -> Judged:
        return Judged(self.original_model_src, tuple(self.sizes), self.num_correct_trials,
                      self.torch_operators)

    @property
    def gpu(self) -> str:
        """torch's name of the GPU that is asked for; empty: none is."""
        device = self.preferred_device
        return f"cuda:{device}" if isinstance(device, int) else device or ""
