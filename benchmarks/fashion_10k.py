"""Task file of the benchmarks: Fashion-MNIST with 10,000 training rows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from classic import ten_thousand

TASK = ten_thousand()
