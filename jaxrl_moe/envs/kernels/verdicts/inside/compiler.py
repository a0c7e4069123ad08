"""Compiles a candidate's kernels for a GPU that need not be here. Runs in the sandbox; needs torch and
triton, which must not be in the interpreter's mode."""
import pathlib
import traceback
from typing import Any, BinaryIO

import frames
import source
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

MOST = 2**24  # bytes of a message
# Bytes of shared memory that a block may have, by the GPU's capability (CUDA C++ Programming Guide, "Compute
# Capabilities": the table of technical specifications).
SHARED = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}


def serve(reading: BinaryIO, writing: BinaryIO, folder: pathlib.Path, device: str) -> None:
    """Answers messages until one says that it is the last."""
    modules: dict[str, Any] = {}
    while (message := frames.read(reading, MOST)) and message[0]["call"] != "end":
        head, _ = message
        try:
            answer = _begin(modules, folder, head) if head["call"] == "begin" else _compiled(modules, head)
        except Exception as error:
            answer = {"error": _told(error)}
        frames.write(writing, answer)


def _begin(modules: dict[str, Any], folder: pathlib.Path, head: dict[str, Any]) -> dict[str, Any]:
    """Imports the file."""
    modules["candidate"] = source.imported(head["source"], folder)
    return {}


def _compiled(modules: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    """Compiles one launch; answers with what the binary takes."""
    launch = head["launch"]
    kernel = getattr(modules["candidate"], launch["kernel"])
    while not isinstance(kernel, triton.JITFunction):  # below autotune and heuristics
        kernel = kernel.fn
    arguments = [launch["arguments"].get(name, {"constant": None, "as": "value"})
                 for name in kernel.arg_names]
    constants: dict[tuple[int, ...], Any] = {}
    signature = [_signature(said, (place,), constants, modules["candidate"]) for place,
                 said in enumerate(arguments)]
    asked = ASTSource(fn=kernel, signature=dict(zip(kernel.arg_names, signature)), constexprs=constants)
    compiled = triton.compile(asked, target=GPUTarget("cuda", head["capability"], 32),
                              options=launch["options"])
    shared, most = int(compiled.metadata.shared), SHARED.get(head["capability"], 227) * 1024
    if shared > most:
        raise ValueError(f"it needs {shared} bytes of shared memory, and a block has {most} at most: take "
                         "smaller blocks or fewer stages")
    return {"shared_bytes": shared, "binary_bytes": len(compiled.asm["cubin"])}


def _signature(said: dict[str, Any], path: tuple[int, ...], constants: dict[tuple[int, ...], Any],
               module: Any) -> Any:
    """Its type, of a tuple those of its parts; values of constants are added by their paths."""
    if "tuple" in said:
        return tuple(_signature(each, (*path, place), constants, module) for place,
                     each in enumerate(said["tuple"]))
    if "constant" in said:
        constants[path] = _constant(said, module)
        return "constexpr"
    return said["type"]


def _constant(said: dict[str, Any], module: Any) -> Any:
    value = said["constant"]
    if said["as"] == "dtype":
        return getattr(tl, value, None) or getattr(torch, value)
    if said["as"] == "kernel":
        return getattr(module, value)
    return tuple(_constant(each, module) for each in value) if said["as"] == "tuple" else value


def _told(error: Exception) -> str:
    text = "".join(traceback.format_exception_only(error))
    while error.__cause__ is not None:
        error = error.__cause__
    return text if str(error) in text else f"{text}from {type(error).__name__}: {error}"


def warm(device: str) -> None:
    """Nothing more is imported late."""
