"""What a source may say and what it may not; nothing is run."""
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_moe.envs.kernels.verdicts.inductor import plain
from jaxrl_moe.envs.kernels.verdicts.static import LONGEST, refusals
from tests.helpers.kernel_cheats import HONEST, candidate

SOLUTIONS = pathlib.Path(__file__).parents[4] / "jaxrl_moe" / "envs" / "kernels" / "problems" / "solutions"
RIGHT = "return right(x, self.weight)"
# Lines of forward, or (lines of forward, what stands above), that many write in good faith.
ALLOWED = [
    "assert x.is_cuda and x.is_contiguous()\n" + RIGHT,
    "x = x.contiguous().cuda()\n" + RIGHT,
    "out = torch.empty(x.shape, device='cuda', dtype=torch.float32)\n" + RIGHT,
    "parts = []\nparts.append(right(x, self.weight))\nreturn parts[0]",
    "sizes = {}\nsizes['rows'] = x.shape[0]\n" + RIGHT,
    "grid = lambda meta: (triton.cdiv(x.numel(), meta['BLOCK']),)\n" + RIGHT,
    "with torch.cuda.device(x.device):\n    " + RIGHT,
    "n = torch.cuda.get_device_properties(0).multi_processor_count\n" + RIGHT,
    "print(f'{x.shape=}')\n" + RIGHT,
    (RIGHT, "BLOCK = tl.constexpr(128)\nNAMES = ('a', 'b')\nHALF: float = 0.5"),
    (RIGHT, "def helper(x: torch.Tensor, eps: float = -1e-5, dtype=torch.float32) -> torch.Tensor:\n    "
     "return x"),
    "x = x.clone()\nx[:, 0] = 0.0\ndel x\n" + RIGHT.replace("x,", "torch.ones(4, 24),"),
    "if (n := x.shape[0]) > 0 and type(x) is torch.Tensor:\n    " + RIGHT,
    "shape = list(x.shape)\nshape.pop()\ninput = x\nreturn right(input, self.weight)",
    "launch = scaled_relu[(x.shape[0],)]\n" + RIGHT,
    (RIGHT, "LOWEST = float('-inf')\nLOG = tl.constexpr(math.log2(3))\nSIZES = [1, 2]\nimport math"),
    (RIGHT, "CONFIGS = [triton.Config({'BLOCK': size}, num_warps=4) for size in (32, 64)]"),
    (RIGHT, "def f(x, size=(1, 1), last=HALF):\n    return x\nHALF = 0.5"),
    (RIGHT, "if __name__ == '__main__':\n    print(ModelNew(4))"),
    (RIGHT, "class Inner(nn.Module):\n    def __init__(self):\n        super().__init__()\n        "
            "self.lin = nn.Linear(2, 2)\n        self.lin.weight.data = torch.ones(2, 2)\n        "
            "self.lin.weight.requires_grad = False\n        self.sizes = []\n        self.sizes.append(2)"),
    (RIGHT, "from triton.language.extra import libdevice\nimport torch.nn.functional as F\nfrom typing "
     "import Optional"),
]
# likewise; the sentence that comes of it has these words
REFUSED = [
    ("import os\n" + RIGHT, "`import os` is not allowed"),
    (("os.system('true')\n" + RIGHT, "import os"), "`import os` is not allowed"),
    (("return np.zeros(1)"), "`np` is not defined"),
    ("return inspect.currentframe()", "`inspect` is not defined"),
    ("torch.os.system('true')\n" + RIGHT, "`torch.os` is not allowed"),
    ("torch.utils.cpp_extension.load_inline('a', '')\n" + RIGHT, "`torch.utils` is not allowed"),
    ("torch.ops.aten.relu(x)\n" + RIGHT, "`torch.ops` is not allowed"),
    ("t = torch\nt.os\n" + RIGHT, "the module torch may be named only to take something from it"),
    ("helper(torch)\n" + RIGHT, "the module torch may be named only"),
    ("torch.relu = None\n" + RIGHT, "torch.relu may not be replaced"),
    ("getattr(torch, 'os')\n" + RIGHT, "`getattr` is not allowed"),
    ("x.__class__\n" + RIGHT, "`.__class__` is not allowed"),
    ("self.__dict__\n" + RIGHT, "`.__dict__` is not allowed"),
    ("(y for y in [x]).gi_frame\n" + RIGHT, "`.gi_frame` is not allowed"),
    ("right.__globals__\n" + RIGHT, "`.__globals__` is not allowed"),
    ("scaled_relu.fn\n" + RIGHT, "`.fn` is not allowed"),
    ("x.data_ptr()\n" + RIGHT, "`.data_ptr` is not allowed"),
    ("x.numpy()\n" + RIGHT, "`.numpy` is not allowed"),
    ("try:\n    pass\nexcept Exception:\n    pass\n" + RIGHT, "`try` is not allowed"),
    ("global calls\n" + RIGHT, "`global` is not allowed"),
    ("self.seen = x\n" + RIGHT, "`.seen =` outside of __init__ would keep a value"),
    ("self.register_buffer('seen', x)\n" + RIGHT, "`self.register_buffer` outside of __init__"),
    ("self.box.append(x)\n" + RIGHT, "`.append` may change only what the same function has made"),
    ("kept = self.box\nkept.append(x)\n" + RIGHT, "`.append` may change only what the same function has "
     "made"),
    ("self.box[0] = x\n" + RIGHT, "an entry may not be set in an attribute"),
    (("BOX[0] = x\n" + RIGHT, "BOX = [0]"), "an entry may not be set in an attribute"),
    ((RIGHT, "BOX = right(1)"), "the module may define functions, classes and constants, and do nothing "
     "else"),
    ((RIGHT, "print(1)"), "the module may define functions, classes and constants, and do nothing else"),
    ((RIGHT, "def f(x, memory=[]):\n    return x"), "a default of a function is no constant"),
    ((RIGHT, "class Lazy(torch.Tensor):\n    pass"), "class Lazy may inherit from torch.nn.Module or from "
     "nothing"),
    ((RIGHT, "class A(metaclass=int):\n    pass"), "class A may inherit from"),
    ((RIGHT, "class A:\n    def __torch_function__(self):\n        pass"), "a method __torch_function__ "
     "is not"),
    ((RIGHT, "def f(torch):\n    return torch"), "`torch` is a module, and cannot be an argument"),
    (("typing.sys\n" + RIGHT, "import typing"), "`typing.sys` is not allowed"),
    ((RIGHT, "from typing import get_type_hints"), "`typing.get_type_hints` is not allowed"),
    (("libdevice.core.builtins\n" + RIGHT, "from triton.language.extra.cuda import libdevice"),
     "`triton.language.extra.cuda.libdevice.core` is not allowed"),
    ((RIGHT, "def array(self):\n    return self.numpy()"), "`self` is what a method of a class has first"),
    ("self = x\n" + RIGHT, "`self` is what a method of a class has first"),
    ("self.weight.numpy()\n" + RIGHT, "`.numpy` is not allowed"),
    ("x.map2_(x, x, max)\n" + RIGHT, "`.map2_` is not allowed"),
    ("type('A', (), {})\n" + RIGHT, "`type` is allowed with one argument"),
    ("torch.empy_like(x)\n" + RIGHT, "did you mean"),
    ("return torch.relu(x)", "No method launches one of the kernels"),
]


def made(case):
    return candidate(*case) if isinstance(case, tuple) else candidate(case)


@pytest.mark.parametrize("case", ALLOWED, ids=range(len(ALLOWED)))
def test_what_many_write_in_good_faith_is_let_through(case):
    assert not refusals(made(case))


@pytest.mark.parametrize("case, words", REFUSED, ids=[str(words) for _, words in REFUSED])
def test_what_verdicts_are_forged_with_is_refused_in_words(case, words):
    said = refusals(made(case))
    assert any(words.lower() in sentence.lower() for sentence in said), said


def test_solutions_are_let_through():
    assert not {path.name: refusals(path.read_text()) for path in SOLUTIONS.rglob("*.py")
                if refusals(path.read_text())}


@pytest.mark.parametrize("source, words", [
    ("def (", "SyntaxError: line 1"), ("x" * (LONGEST + 1), "characters"), ("(" * 5000, "SyntaxError"),
    ("a\0b", "SyntaxError"), ("# -*- coding: unicode_escape -*-\n" + HONEST, "names an encoding"),
    ("#!x\n# vim: set fileencoding=utf-7 :\n" + HONEST, "names an encoding"),
                                           ("", "needs one class ModelNew"),
    (HONEST.replace("class ModelNew(nn.Module)", "class ModelNew"), "must be a torch.nn.Module"),
    (HONEST.replace("tl.store(", "tl.load("), "defines no kernel"),
    (HONEST.replace("@triton.jit", ""), "defines no kernel")])
def test_what_is_no_candidate_is_told_so(source, words):
    assert any(words in sentence for sentence in refusals(source)), refusals(source)


@given(st.text(max_size=300))
def test_any_text_has_an_answer(text):
    assert refusals(text)


@pytest.mark.parametrize("source", [
    HONEST + "".join(f"\n\ndef f{i}(x):\n    return f{i + 1}(x) + f{i + 1}(x)" for i in range(60)),
    HONEST + "\n\ndef f(a):\n" + "    a[0] = 0\n" * 4000,
    HONEST + "\n\ndef f(a):\n    return a" + ".b" * 900,
    "import torch._inductor\nx = " + "-" * 50000 + "1"])
@pytest.mark.timeout(120)  # it was minutes, and hours
def test_no_source_takes_long_to_look_at(source):
    assert isinstance(refusals(plain(source)), list)
