"""A linear layer gives logits over a vocabulary; the mean cross-entropy to the targets is taken of them."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 4096
WIDTH = 1024
VOCABULARY = 32000

SMALL = {"TOKENS": 20, "WIDTH": 40, "VOCABULARY": 130}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1, "VOCABULARY": 1}, {"TOKENS": 33, "WIDTH": 17, "VOCABULARY": 65},
            {"TOKENS": 6, "WIDTH": 65, "VOCABULARY": 70})


class Model(nn.Module):
    def __init__(self, width, vocabulary):
        super().__init__()
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, hidden, targets):
        return F.cross_entropy(self.head(hidden), targets)


def get_inputs():
    spread = 3 + 5 * torch.rand(1)
    return [torch.randn(TOKENS, WIDTH) * spread, torch.randint(VOCABULARY, (TOKENS,))]


def get_init_inputs():
    return [WIDTH, VOCABULARY]
