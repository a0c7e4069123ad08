"""One step of decoding with grouped queries: each sequence has one new query for each head, several heads
share the cached keys and values of one, and each sequence has a length of its own."""
import torch
from torch import nn

BATCH = 64
LENGTH = 2048
KV_HEADS = 8
GROUP = 4
WIDTH = 128

SMALL = {"BATCH": 2, "LENGTH": 40, "KV_HEADS": 2, "GROUP": 3, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "KV_HEADS": 1, "GROUP": 1, "WIDTH": 1},
            {"BATCH": 3, "LENGTH": 65, "KV_HEADS": 1, "GROUP": 17, "WIDTH": 20},
            {"BATCH": 2, "LENGTH": 32, "KV_HEADS": 3, "GROUP": 2, "WIDTH": 33})


class Model(nn.Module):
    def forward(self, q, keys, values, lengths):
        group = q.shape[1] // keys.shape[2]
        keys, values = keys.repeat_interleave(group, dim=2), values.repeat_interleave(group, dim=2)
        scores = torch.einsum("bhd,blhd->bhl", q, keys) * q.shape[-1] ** -0.5
        unused = torch.arange(keys.shape[1], device=q.device) >= lengths[:, None]
        weights = torch.softmax(scores.masked_fill(unused[:, None, :], float("-inf")), dim=-1)
        return torch.einsum("bhl,blhd->bhd", weights, values)


def get_inputs():
    cache = (BATCH, LENGTH, KV_HEADS, WIDTH)
    lengths = torch.randint(1, LENGTH + 1, (BATCH,))
    return [2 * torch.randn(BATCH, KV_HEADS * GROUP, WIDTH), torch.randn(cache), torch.randn(cache), lengths]


def get_init_inputs():
    return []
