"""Reports on the channel that it has fitted, and only then fits.

Hopes for the test inputs during training, and for a fit time of zero. (Its work after the query counts as predicting.)
"""

import os
import time

from _base import Ignorant
from _channel import frame, sockets

VERDICT = {"status": ["complete", "invalid", "failed"], "chance": True}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        said = frame({"event": "fitted"}) + frame(
            {"event": "described", "n_parameters": 1, "summary": "", "snapshots": 0}
        )
        os.write(max(sockets()), said)
        time.sleep(0.5)
