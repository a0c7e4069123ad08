"""Arguments and results of a module as plain messages: {"tensor": i, "dtype", "shape"} for a tensor, whose
bytes are part i, and numbers, texts, lists and None as they are. Runs in the sandbox; needs torch."""
from typing import Any

import torch

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
                                                                 torch.int32,
    torch.int64, torch.bool)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def told(value: Any, parts: list[bytes]) -> Any:
    """A value as it is sent; bytes of tensors are added to the parts.

    Raises:
      TypeError: it is none that can be sent, such as a tensor of a class of its own.
    """
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return _told_tensor(value.detach(), parts)
    if isinstance(value, list | tuple):
        return {"list": [told(each, parts) for each in value]}
    if value is None or type(value) in (bool, int, float, str):
        return {"plain": value}
    raise TypeError(f"a value of type {type(value).__name__}, where tensors, numbers and lists of them are "
                    "known")


def _told_tensor(tensor: torch.Tensor, parts: list[bytes]) -> dict[str, Any]:
    if tensor.dtype not in NAMES or tensor.layout is not torch.strided:
        raise TypeError(f"a tensor of {tensor.dtype} and {tensor.layout}")
    flat = tensor.cpu().contiguous().flatten()
    parts.append(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return {"tensor": len(parts) - 1, "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}


def call_told(inputs: list[Any], output: Any) -> tuple[dict[str, Any], list[bytes]]:
    """A call as it is sent: its inputs, as they are by now, its output, and whether that lies in their
    memory."""
    parts: list[bytes] = []
    said = told(inputs, parts)
    count = len(parts)
    return {"inputs": said, "input_parts": count, "output": told(output, parts),
            "aliases": bool(storages(output) & storages(inputs))}, parts


def made(said: Any, parts: list[bytes], device: str) -> Any:
    """The value that was sent, in memory of its own."""
    if "plain" in said:
        return said["plain"]
    if "list" in said:
        return [made(each, parts, device) for each in said["list"]]
    data = parts[said["tensor"]]
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    return flat.view(DTYPES[said["dtype"]]).reshape(said["shape"]).to(device)


def storages(value: Any) -> set[int]:
    """Where the memory of tensors lies."""
    if isinstance(value, torch.Tensor):
        return {value.untyped_storage().data_ptr()} if value.numel() else set()
    return set().union(*map(storages, value)) if isinstance(value, list | tuple) else set()
