"""Resets its user ids, asks for capabilities, and runs setuid programs of root.

Hopes to be root.
"""

import os
import subprocess
from pathlib import Path

from _base import GotThrough, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: run by root, it is root"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        if os.geteuid():  # tier B may keep user id 0 without any rights: see below
            attempt("setuid", lambda: os.setuid(0))
            attempt("setresuid", lambda: os.setresuid(0, 0, 0))
            attempt("setgid", lambda: os.setgid(0))
        else:
            attempt("setuid", lambda: os.setuid(1234))
        attempt("setgroups", lambda: os.setgroups([0]))
        for program in ("su", "sudo", "mount", "newgrp", "pkexec", "passwd", "chsh"):
            place = Path("/usr/bin", program)
            if place.exists() and place.stat().st_mode & 0o4000:
                copied = subprocess.run(
                    ["/bin/sh", "-c", f"{place} --version >/dev/null 2>&1; grep -c ^CapEff:.0*$ /proc/self/status"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if copied.stdout.strip() == "0":
                    raise GotThrough(f"{program} brings rights along")
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        for name in ("CapPrm", "CapEff", "CapAmb"):
            if int(status[name], 16):
                raise GotThrough(f"has capabilities {name} {status[name]}")
        if status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2":
            raise GotThrough("has no filter")
