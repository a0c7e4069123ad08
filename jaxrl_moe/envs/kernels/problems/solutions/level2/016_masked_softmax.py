"""Hidden scores are not even read."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def masked_softmax_kernel(scores_ptr, visible_ptr, out_ptr, heads, queries, keys, scale, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    batch = row // queries // heads
    columns = tl.arange(0, BLOCK)
    inside = columns < keys
    seen_ptr = visible_ptr + (batch * queries + row % queries) * keys
    visible = tl.load(seen_ptr + columns, mask=inside, other=0) != 0
    scores = tl.load(scores_ptr + row * keys + columns, mask=inside & visible, other=float("-inf")) * scale
    powers = tl.exp(scores - tl.max(scores, axis=0))
    tl.store(out_ptr + row * keys + columns, powers / tl.sum(powers, axis=0), mask=inside)


class ModelNew(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, scores, visible):
        scores, visible = scores.contiguous(), visible.contiguous()
        batch, heads, queries, keys = scores.shape
        out = torch.empty_like(scores)
        grid = (batch * heads * queries,)
        masked_softmax_kernel[grid](scores, visible, out, heads, queries, keys, self.scale,
                                    BLOCK=triton.next_power_of_2(keys))
        return out
