"""Product of two float16 matrices, summed in float32 and rounded once."""
import torch
from torch import nn

ROWS = 4096
INNER = 2048
COLUMNS = 4096

SMALL = {"ROWS": 50, "INNER": 70, "COLUMNS": 80}
VARIANTS = ({"ROWS": 1, "INNER": 1, "COLUMNS": 1}, {"ROWS": 65, "INNER": 31, "COLUMNS": 17},
            {"ROWS": 8, "INNER": 129, "COLUMNS": 66})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [(torch.randn(ROWS, INNER) * INNER ** -0.5).half(), torch.randn(INNER, COLUMNS).half()]


def get_init_inputs():
    return []
