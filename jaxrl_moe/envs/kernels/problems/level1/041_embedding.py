"""Rows of a table, looked up by index."""
import torch
from torch import nn

BATCH = 16
LENGTH = 2048
VOCABULARY = 32000
WIDTH = 1024

SMALL = {"BATCH": 2, "LENGTH": 9, "VOCABULARY": 50, "WIDTH": 300}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "VOCABULARY": 1, "WIDTH": 1},
            {"BATCH": 3, "LENGTH": 5, "VOCABULARY": 17, "WIDTH": 513},
            {"BATCH": 1, "LENGTH": 20, "VOCABULARY": 200, "WIDTH": 33})


class Model(nn.Module):
    def __init__(self, vocabulary, width):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, ids):
        return self.table(ids)


def get_inputs():
    return [torch.randint(VOCABULARY, (BATCH, LENGTH))]


def get_init_inputs():
    return [VOCABULARY, WIDTH]
