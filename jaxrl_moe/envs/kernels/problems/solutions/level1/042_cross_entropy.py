"""One kernel gives each row's loss without writing probabilities, a second the mean of the rows."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def row_loss_kernel(logits_ptr, targets_ptr, losses_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    largest = tl.full((), float("-inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for start in range(0, classes, BLOCK):
        inside = start + lanes < classes
        x = tl.load(logits_ptr + row * classes + start + lanes, mask=inside, other=float("-inf"))
        larger = tl.maximum(largest, tl.max(x, axis=0))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(x - larger), axis=0)
        largest = larger
    chosen = tl.load(logits_ptr + row * classes + tl.load(targets_ptr + row))
    tl.store(losses_ptr + row, largest + tl.log(total) - chosen)


@triton.jit
def mean_kernel(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        total += tl.load(x_ptr + start + lanes, mask=start + lanes < size, other=0.0)
    tl.store(out_ptr, tl.sum(total, axis=0) / size)


class ModelNew(nn.Module):
    def forward(self, logits, targets):
        logits, targets = logits.contiguous(), targets.contiguous()
        rows, classes = logits.shape
        losses = torch.empty(rows, dtype=logits.dtype, device=logits.device)
        out = torch.empty((), dtype=logits.dtype, device=logits.device)
        row_loss_kernel[(rows,)](logits, targets, losses, classes, BLOCK=1024)
        mean_kernel[(1,)](losses, out, rows, BLOCK=1024)
        return out
