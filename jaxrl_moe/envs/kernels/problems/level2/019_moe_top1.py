"""Mixture of experts with one expert for each token: that of its largest logit is applied, and the result is
scaled by that logit's softmax."""
import torch
from torch import nn

TOKENS = 8192
WIDTH = 1024
HIDDEN = 1024
EXPERTS = 8

SMALL = {"TOKENS": 40, "WIDTH": 40, "HIDDEN": 50, "EXPERTS": 3}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1, "HIDDEN": 1, "EXPERTS": 1},
            {"TOKENS": 70, "WIDTH": 33, "HIDDEN": 17, "EXPERTS": 2},
            {"TOKENS": 5, "WIDTH": 16, "HIDDEN": 65, "EXPERTS": 9})


class Model(nn.Module):
    def __init__(self, experts, hidden, width):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(experts, hidden, width) * width ** -0.5)

    def forward(self, x, logits):
        chosen = logits.argmax(dim=-1)
        gate = torch.softmax(logits, dim=-1).gather(1, chosen[:, None])
        out = torch.zeros(x.shape[0], self.experts.shape[1], dtype=x.dtype, device=x.device)
        for expert, weight in enumerate(self.experts):
            mine = chosen == expert
            out[mine] = x[mine] @ weight.T
        return out * gate


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH), 2 * torch.randn(TOKENS, EXPERTS)]


def get_init_inputs():
    return [EXPERTS, HIDDEN, WIDTH]
