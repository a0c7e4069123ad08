"""A program copies one block of one row."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def embedding_kernel(ids_ptr, table_ptr, out_ptr, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(ids_ptr + token)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(table_ptr + row * width + columns, mask=inside, other=0.0)
    tl.store(out_ptr + token * width + columns, values, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, vocabulary, width):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, ids):
        ids = ids.contiguous()
        table = self.table.weight
        width = table.shape[1]
        out = torch.empty(*ids.shape, width, dtype=table.dtype, device=table.device)
        embedding_kernel[(ids.numel(), triton.cdiv(width, 256))](ids, table, out, width, BLOCK=256)
        return out
