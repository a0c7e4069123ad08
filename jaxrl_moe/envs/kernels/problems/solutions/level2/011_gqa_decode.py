"""All queries that share a cache go through it together, padded to the 16 rows that a product needs."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def gqa_decode_kernel(q_ptr, k_ptr, v_ptr, lengths_ptr, out_ptr, cached, kv_heads, group, width, scale,
                      GROUP: tl.constexpr, BLOCK_K: tl.constexpr, WIDTH: tl.constexpr):
    batch = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    rows = tl.arange(0, GROUP)
    lanes = tl.arange(0, WIDTH)
    own = ((batch * kv_heads + kv_head) * group + rows[:, None]) * width + lanes[None, :]
    inside = (rows[:, None] < group) & (lanes[None, :] < width)
    q = tl.load(q_ptr + own, mask=inside, other=0.0) * scale
    length = tl.load(lengths_ptr + batch).to(tl.int32)
    largest = tl.full((GROUP,), -1e30, tl.float32)
    total = tl.zeros((GROUP,), tl.float32)
    out = tl.zeros((GROUP, WIDTH), tl.float32)
    for start in range(0, length, BLOCK_K):
        places = start + tl.arange(0, BLOCK_K)
        offsets = ((batch * cached + places[:, None]) * kv_heads + kv_head) * width + lanes[None, :]
        there = (places[:, None] < length) & (lanes[None, :] < width)
        k = tl.load(k_ptr + offsets, mask=there, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        scores = tl.where(places[None, :] < length, scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.exp(scores - larger[:, None])
        shrink = tl.exp(largest - larger)
        total = total * shrink + tl.sum(weights, axis=1)
        v = tl.load(v_ptr + offsets, mask=there, other=0.0)
        out = tl.dot(weights, v, out * shrink[:, None], input_precision="ieee")
        largest = larger
    tl.store(out_ptr + own, out / total[:, None], mask=inside)


class ModelNew(nn.Module):
    def forward(self, q, keys, values, lengths):
        q, keys, values = q.contiguous(), keys.contiguous(), values.contiguous()
        lengths = lengths.contiguous()
        batch, cached, kv_heads, width = keys.shape
        group = q.shape[1] // kv_heads
        out = torch.empty_like(q)
        gqa_decode_kernel[(batch, kv_heads)](q, keys, values, lengths, out, cached, kv_heads, group, width,
                                             width ** -0.5, GROUP=max(16, triton.next_power_of_2(group)),
                                             BLOCK_K=32, WIDTH=max(16, triton.next_power_of_2(width)))
        return out
