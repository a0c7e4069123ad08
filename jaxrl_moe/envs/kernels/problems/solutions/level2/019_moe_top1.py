"""Tokens are routed, listed by expert, and each expert multiplies the rows of its list."""
import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def route_kernel(logits_ptr, chosen_ptr, gates_ptr, tokens, experts, TOKENS: tl.constexpr,
                 EXPERTS: tl.constexpr):
    rows = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    lanes = tl.arange(0, EXPERTS)
    inside = (rows[:, None] < tokens) & (lanes[None, :] < experts)
    logits = tl.load(logits_ptr + rows[:, None] * experts + lanes[None, :], mask=inside, other=-1e30)
    largest = tl.max(logits, axis=1)
    chosen = tl.min(tl.where(logits == largest[:, None], lanes[None, :], EXPERTS), axis=1)
    total = tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    tl.store(chosen_ptr + rows, chosen, mask=rows < tokens)
    tl.store(gates_ptr + rows, 1.0 / total, mask=rows < tokens)


@triton.jit
def list_kernel(chosen_ptr, lists_ptr, counts_ptr, tokens, BLOCK: tl.constexpr):
    expert = tl.program_id(0)
    count = tl.full((), 0, tl.int32)
    for start in range(0, tokens, BLOCK):
        rows = start + tl.arange(0, BLOCK)
        mine = tl.load(chosen_ptr + rows, mask=rows < tokens, other=-1) == expert
        ones = mine.to(tl.int32)
        places = count + tl.cumsum(ones, axis=0) - 1
        tl.store(lists_ptr + expert * tokens + places, rows, mask=mine)
        count += tl.sum(ones, axis=0)
    tl.store(counts_ptr + expert, count)


@triton.jit
def expert_kernel(x_ptr, experts_ptr, gates_ptr, lists_ptr, counts_ptr, out_ptr, tokens, n, k,
                  BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    expert = tl.program_id(2)
    count = tl.load(counts_ptr + expert)
    places = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if tl.program_id(0) * BLOCK_M < count:
        rows = tl.load(lists_ptr + expert * tokens + places, mask=places < count, other=0)
        weights_ptr = experts_ptr + expert.to(tl.int64) * n * k
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, k, BLOCK_K):
            inner = start + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + rows[:, None] * k + inner[None, :],
                        mask=(places[:, None] < count) & (inner[None, :] < k), other=0.0)
            weight = tl.load(weights_ptr + columns[None, :] * k + inner[:, None],
                             mask=(columns[None, :] < n) & (inner[:, None] < k), other=0.0)
            total = tl.dot(x, weight, total, input_precision="ieee")
        gates = tl.load(gates_ptr + rows, mask=places < count, other=0.0)
        tl.store(out_ptr + rows[:, None] * n + columns[None, :], total * gates[:, None],
                 mask=(places[:, None] < count) & (columns[None, :] < n))


class ModelNew(nn.Module):
    def __init__(self, experts, hidden, width):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(experts, hidden, width) * width ** -0.5)

    def forward(self, x, logits):
        x, logits = x.contiguous(), logits.contiguous()
        tokens, width = x.shape
        experts, hidden, _ = self.experts.shape
        chosen = torch.empty(tokens, dtype=torch.int32, device=x.device)
        gates = torch.empty(tokens, dtype=x.dtype, device=x.device)
        lists = torch.empty(experts, tokens, dtype=torch.int32, device=x.device)
        counts = torch.empty(experts, dtype=torch.int32, device=x.device)
        out = torch.empty(tokens, hidden, dtype=x.dtype, device=x.device)
        route_kernel[(triton.cdiv(tokens, 64),)](logits, chosen, gates, tokens, experts, TOKENS=64,
                                                 EXPERTS=triton.next_power_of_2(experts))
        list_kernel[(experts,)](chosen, lists, counts, tokens, BLOCK=1024)
        grid = (triton.cdiv(tokens, 64), triton.cdiv(hidden, 64), experts)
        expert_kernel[grid](x, self.experts, gates, lists, counts, out, tokens, hidden, width, BLOCK_M=64,
                            BLOCK_N=64, BLOCK_K=32)
        return out
