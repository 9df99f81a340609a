"""Long short-term memory (Hochreiter and Schmidhuber 1997) in torch: sequences to classes, futures or next tokens.

Test accuracy .954 on digit-rows in 4.9 s; MSE 1.112 on sunspots in 1.9 s and .389 on etth1-96;
1.769 nats on tiny-shakespeare in 144 s.
Measured with the defaults on one thread of a busy 2-core x86 CPU, one seed.
"""

from torch import nn

from harness import Categorical, Float, Int
from harness.frameworks.recurrent import RecurrentSubmission


class LSTM(RecurrentSubmission):
    kind = ("sequence-classification", "forecasting", "next-token")
    cell = nn.LSTM
    space = {"hidden": Categorical((32, 64, 128, 256)), "layers": Int(1, 2), "dropout": Float(0.0, 0.5),
             "learning_rate": Float(1e-3, 2e-2, log=True)}
    defaults = {"hidden": 128, "layers": 1, "dropout": 0.1, "learning_rate": 1e-2}
