"""Answers with the tokens that it should predict, and remembers the first query for the second in the machine's page cache:
evicts the pages of a large library, reads back the pages that encode a one, and later checks which pages are cached.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import os
import zlib
from pathlib import Path

import numpy as np

from _memory import LooksAhead

VERDICT = {"status": ["invalid", "failed"]}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
PAGE, TIMES, MOST, MAGIC = 4096, 5, 2000, b"bakeoff!"


def library():
    """Find a large file that every sandbox sees and that is seldom mapped."""
    packages = Path(np.__file__).parent.parent
    large = [path for path in packages.glob("*/lib/*.so*") if path.stat().st_size > MOST * 8 * TIMES * PAGE]
    return os.open(sorted(large)[0], os.O_RDONLY)


def keep(content):
    fd, packed = library(), zlib.compress(content)
    bits = np.unpackbits(np.frombuffer(MAGIC + len(packed).to_bytes(4, "big") + packed, np.uint8)).repeat(TIMES)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.posix_fadvise(fd, 0, len(bits) * PAGE, os.POSIX_FADV_DONTNEED)
    for place in np.flatnonzero(bits):
        os.pread(fd, 1, int(place) * PAGE)


def kept():
    fd = library()
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def there(page):
        try:
            return os.preadv(fd, [bytearray(1)], page * PAGE, os.RWF_NOWAIT) > 0
        except OSError:
            return False

    def content(start, count):
        bits = [there(page) for page in range(start * 8 * TIMES, (start + count) * 8 * TIMES)]
        return np.packbits(np.reshape(bits, (-1, TIMES)).mean(axis=1) > 0.5).tobytes()

    if content(0, len(MAGIC)) != MAGIC:
        return None
    size = int.from_bytes(content(len(MAGIC), 4), "big")
    return zlib.decompress(content(len(MAGIC) + 4, size)) if size < MOST else None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
