"""Plain recurrent network with tanh units (Elman 1990) in torch: sequences to classes, futures or next tokens.

Its gradient shrinks with every step back in time (Bengio et al. 1994): on `adding`, which needs memories of 25 steps, it stays near
chance, while `lstm` and `gru` learn the task.

Test accuracy .959 on digit-rows (2.9 s a fit), .506 on adding (8.5 s); test MSE 1.177 on sunspots (0.9 s); test nats 1.195 on
brackets (8.6 s): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
"""

from torch import nn

from harness import Categorical, Float, Int
from harness.frameworks.recurrent import RecurrentSubmission


class RNN(RecurrentSubmission):
    kind = ("sequence-classification", "forecasting", "next-token")
    cell = nn.RNN
    space = {"hidden": Categorical((32, 64, 128, 256)), "layers": Int(1, 2), "dropout": Float(0.0, 0.5),
             "learning_rate": Float(3e-4, 1e-2, log=True)}
    defaults = {"hidden": 128, "layers": 1, "dropout": 0.1, "learning_rate": 3e-3}
