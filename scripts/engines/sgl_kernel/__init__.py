"""A stand-in for SGLang's compiled kernels, which no package index has for CPUs: enough for SGLang to start
and to serve through its PyTorch paths. Any name can be imported; a kernel that is really called says that it
is not here."""
import importlib.abc
import importlib.machinery
import sys
import types

import torch

__version__ = "0.4.10"  # SGLang compares it
REAL = ("sgl_kernel.scalar_type",)  # SGLang asks for it under a try, and does without


def __getattr__(name):
    return _missing(name)


def _missing(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def kernel(*arguments, **options):
        raise NotImplementedError(f"sgl_kernel.{name} is a compiled kernel, and this is a stand-in without "
                                  "any")
    kernel.__name__ = name
    return kernel


class _Module(types.ModuleType):
    __path__: list = []

    def __getattr__(self, name):
        return _missing(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes every submodule that somebody imports."""

    def find_spec(self, fullname, path, target=None):
        if fullname.startswith("sgl_kernel.") and fullname not in REAL:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


def _unpinned(make):
    """The LoRA pools ask for pinned memory, which PyTorch refuses where there is no accelerator."""
    def made(*arguments, pin_memory=False, **options):
        return make(*arguments, **options)
    return made


class _Runtime:
    """Of CUDA, as the buffers of routed experts ask for it: they register host memory, which a CPU needs
    not."""

    @staticmethod
    def cudaHostRegister(*arguments):
        return 0

    cudaHostUnregister = cudaHostRegister


sys.meta_path.append(_Finder())
if not torch.cuda.is_available():
    for _name in ("empty", "zeros", "ones", "full", "tensor", "empty_like", "zeros_like"):
        setattr(torch, _name, _unpinned(getattr(torch, _name)))
    torch.cuda.cudart = _Runtime
    torch.Tensor.pin_memory = lambda self, *arguments, **options: self
