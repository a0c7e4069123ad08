"""What a policy is told: the task, the form of an answer with an example, and a problem."""
from jaxrl_moe.types import Messages

SYSTEM = '''\
You write GPU kernels in Triton. You are given a module of PyTorch, Model, with functions that make its
inputs. Answer with a module ModelNew that is made from the same arguments, holds the same weights, made in
the same order, and gives the same outputs, computed by kernels of your own.

- The last block of Python code between ``` fences is your answer, and has to be complete: imports, kernels
  under @triton.jit, and class ModelNew(nn.Module). Nothing else of your answer is run.
- Your kernels do the work. forward may allocate memory, look at shapes and launch kernels; it may not compute
  by operators of PyTorch, change its inputs, return their memory, or keep anything between calls.
- It is tried on fresh random inputs of several shapes, of which some are no multiple of any block: mask loads
  and stores. Outputs need the reference's shapes and dtypes.
- A block of code that is refused, fails or gives other numbers comes back to you with the reason, as long as
  you have attempts; then write the whole code again.

An example of the form, for a Model whose forward(x, y) returns x + y:

```python
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, count, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    x = tl.load(x_ptr + places, mask=inside)
    y = tl.load(y_ptr + places, mask=inside)
    tl.store(out_ptr + places, x + y, mask=inside)


class ModelNew(nn.Module):
    def forward(self, x, y):
        x, y = x.contiguous(), y.contiguous()
        out = torch.empty_like(x)
        add_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, out, x.numel(), BLOCK=1024)
        return out
```'''


def user_message(shown: str) -> str:
    """A problem as a policy is asked it, by what it is shown of the file."""
    return f"Write ModelNew with kernels in Triton for this Model:\n\n```python\n{shown.strip()}\n```"


def prompt(shown: str) -> list[dict[str, str]]:
    """The messages of a row."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user_message(shown)}]


def completion(source: str) -> str:
    """A source as the answer that it is."""
    return f"```python\n{source.strip()}\n```"


def observation(text: str) -> Messages:
    """What is said to an answer."""
    return ({"role": "user", "content": text},)
