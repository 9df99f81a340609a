"""How a submission's process is started: which tier of isolation there is here, and the command and environment that give it.

- ``sandbox-a``: bubblewrap (own mounts, processes, network), seccomp, Landlock, resource limits.
- ``sandbox-b``, where namespaces are denied: Landlock and seccomp on an ordinary process, another user where root allows it.
- ``process``: a process group, a scratch folder and an environment of its own. Nothing keeps its code from reading what you can.

Which of them there is, is not guessed: `answers` starts a process in the tier, has it try the holes, and reads what it says.
Asking for a tier that is not to be had raises; only ``auto`` goes down, and says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import ProbeFailed, UsageError
from harness.execution.parent.canary import MUST_BE_CLOSED, Canary
from harness.execution.shared.seccomp import export_filter

TIERS = ("sandbox-a", "sandbox-b", "process")
INHERITED_VARIABLES = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TBB_NUM_THREADS",
)
SANDBOX_SCRATCH = "/tmp/bakeoff"  # noqa: S108, a tmpfs of the sandbox's own
"""The scratch folder of a tier-A sandbox. It exists nowhere else."""
ETC_FILES = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives", "OpenCL", "fonts", "mime.types")
FIRST_UID = 0x7000_0000
"""User numbers from here on belong to nobody; each worker gets one, so that no other process is its own."""
PROBE_LIMIT_SECONDS = 20.0

_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
"""bubblewrap dies with the *thread* that started it, so one thread that lives as long as the harness starts them all."""


@dataclass(frozen=True)
class ProcessSpec:
    """What one process gets: ``disk`` bytes to write, ``rlimits`` by name, a ``number`` of its own, and files ``shown`` to it
    beside the libraries.
    """

    scratch: Path
    disk: int = 1 << 30
    rlimits: Mapping[str, int] = field(default_factory=dict)
    number: int = 0
    threads: int = 1
    visible: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Isolation:
    """A tier, chosen. ``name`` and ``answers`` (hole: open or closed) are what rows record; ``user_namespace`` says how tier A
    loses its rights: in a namespace where its user is nobody, or, started by root, by changing to another user."""

    name: str = "process"
    answers: Mapping[str, str] = field(default_factory=dict)
    user_namespace: bool = False
    hidden: tuple[Path, ...] = ()

    @property
    def sandboxed(self) -> bool:
        return self.name != "process"

    @property
    def has_own_files(self) -> bool:
        """Whether the scratch folder is inside the sandbox, not on this machine's disk."""
        return self.name == "sandbox-a"

    def start(
        self, arguments: Sequence[str], spec: ProcessSpec, *, fds: Sequence[int], **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a module of ours in this tier, with these descriptors and what `subprocess.Popen` takes."""
        if not self.sandboxed:
            command = [sys.executable, "-P", "-m", *arguments]
            return self._spawn(command, fds, cwd=spec.scratch, env=self.environment(spec), **options)
        locks: dict[str, Any] = {"rlimits": {"RLIMIT_CORE": 0, **spec.rlimits}}
        python = [sys.executable, "-P", "-m", "harness.execution.child.lockdown"]
        if self.name == "sandbox-b":
            uid = unused_uid(spec) if os.getuid() == 0 and readable_by_others() else None
            if uid is not None:
                os.chown(spec.scratch, uid, uid)
            locks |= {
                "uid": uid,
                "seccomp": True,
                "read": [*readable_paths(), *map(str, spec.visible)],
                "write": [str(spec.scratch), *device_nodes()],
            }
            drop = ["--bounding-set", "-all"] if os.getuid() == 0 and uid is None else []
            before = ["setpriv", *drop, "--inh-caps", "-all", "--ambient-caps", "-all", "--pdeathsig", "KILL", "--"]
            command = [*before, *python, json.dumps(locks), *arguments]
            return self._spawn(command, fds, cwd=spec.scratch, env=self.environment(spec), **options)
        if not self.user_namespace:
            locks["uid"] = unused_uid(spec)
        locks |= {"read": ["/"], "write": ["/tmp", "/dev"]}  # noqa: S108
        with tempfile.TemporaryFile() as program:
            program.write(filter_program())
            program.seek(0)
            before = [*self._bubblewrap(spec), "--seccomp", str(program.fileno()), "--"]
            command = [*before, *python, json.dumps(locks), *arguments]
            return self._spawn(command, [*fds, program.fileno()], env=self.environment(spec), **options)

    def environment(self, spec: ProcessSpec) -> dict[str, str]:
        """Few variables, no secrets of the parent's; a home that is the scratch folder; threads pinned."""
        kept = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        scratch = SANDBOX_SCRATCH if self.has_own_files else str(spec.scratch)
        fixed = {
            # torch must count GPUs through the driver's library: to ask CUDA before a fork breaks CUDA in every fork.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            "HOME": scratch,
            "TMPDIR": scratch,
            "XDG_CACHE_HOME": scratch,
            "USER": "bakeoff",
            "LOGNAME": "bakeoff",
            "KERAS_BACKEND": "torch",
            "KERAS_HOME": scratch,
            "MPLCONFIGDIR": scratch,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return kept | fixed | {name: str(spec.threads) for name in THREAD_VARIABLES}

    def _bubblewrap(self, spec: ProcessSpec) -> list[str]:
        """The machine as the sandbox sees it: libraries to read, folders in memory to write, itself as the only process."""
        command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        command += ["--die-with-parent", "--hostname", "bakeoff", "--cap-drop", "ALL"]
        if self.user_namespace:
            command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        else:
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        made: set[Path] = set()

        def folders(path: Path) -> list[str]:
            """Parents are made with rights for all: left alone, bubblewrap shuts them to everybody but their maker."""
            missing = [parent for parent in reversed(path.parents) if parent not in made and parent != Path("/")]
            made.update(missing)
            return [word for parent in missing for word in ("--perms", "0755", "--dir", str(parent))]

        command += ["--proc", "/proc", "--dev", "/dev"]
        for place in ("/dev/shm", "/tmp"):  # noqa: S108, the sandbox's own
            command += ["--size", str(spec.disk), "--perms", "1777", "--tmpfs", place]
        command += ["--perms", "1777", "--dir", SANDBOX_SCRATCH, "--ro-bind", "/usr", "/usr"]
        made.update(map(Path, ("/usr", "/dev", "/tmp")))  # noqa: S108, libraries may lie below /tmp
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            top = Path("/", name)
            if top.is_symlink():
                command += ["--symlink", os.readlink(top), str(top)]  # noqa: PTH115
            elif top.is_dir():
                command += ["--ro-bind", str(top), str(top)]
            made.add(top)
        seen = [Path("/usr")]
        for path in (*library_folders(), *spec.visible, *(Path("/etc", name) for name in ETC_FILES)):
            if path.exists() and not any(path.is_relative_to(other) for other in seen):
                command += [*folders(path), "--ro-bind", str(path), str(path)]
                seen.append(path)
        for path in self.hidden:
            if path.is_dir() and any(path.is_relative_to(other) for other in seen):
                command += ["--size", "4096", "--tmpfs", str(path), "--remount-ro", str(path)]
        for node in gpu_nodes():
            command += ["--dev-bind", node, node]
        cores = "/sys/devices/system"  # how many there are, for whoever plans threads
        command += [*folders(Path(cores)), "--ro-bind-try", cores, cores]
        return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SANDBOX_SCRATCH]

    @staticmethod
    def _spawn(command: Sequence[str], fds: Sequence[int], **options: Any) -> subprocess.Popen[bytes]:
        start: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
            command, pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
        return _spawner.submit(start).result()


@cache
def filter_program() -> bytes:
    """The seccomp filter as the kernel's instructions."""
    with tempfile.TemporaryFile() as file:
        export_filter(file)
        file.seek(0)
        return file.read()


@cache
def library_folders() -> tuple[Path, ...]:
    """The folders that Python and its libraries are in, beside /usr. Nothing else of this machine is shown."""
    package = Path(__file__).parent.parent.parent
    paths = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent, package]
    paths += [Path(sysconfig.get_path("stdlib"))]
    # Other folders of sys.path may be anybody's project, with anything in them.
    paths += [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    paths += [Path(place) for place in os.environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    paths += [Path(os.environ["CUDA_HOME"])] if os.environ.get("CUDA_HOME") else []
    chosen: list[Path] = []
    for path in sorted({path.absolute() for path in paths if path.is_dir()}, key=lambda path: len(path.parts)):
        # A user's whole home or the root of everything is no library folder, whoever says so.
        if path in (Path("/"), Path.home()) or path.is_relative_to("/usr"):
            continue
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return tuple(chosen)


def gpu_nodes() -> list[str]:
    """The device files of NVIDIA GPUs, which CUDA opens."""
    return sorted(str(path) for path in Path("/dev").glob("nvidia*") if stat.S_ISCHR(path.stat().st_mode))


def device_nodes() -> list[str]:
    """What may be written in /dev by a process that sees the real one."""
    return [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")] + gpu_nodes()


def readable_paths() -> list[str]:
    """What tier B may read: libraries, and of /proc what the kernel lets a process see of others."""
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", "/sys/devices/system"]
    return [*system, *(f"/etc/{name}" for name in ETC_FILES), *map(str, library_folders())]


def readable_by_others() -> bool:
    """Whether another user can get at the interpreter, the libraries and this package."""
    for path in library_folders():
        for part in (path, *path.parents):
            if not part.stat().st_mode & stat.S_IXOTH:
                return False
    return True


def unused_uid(spec: ProcessSpec) -> int:
    return FIRST_UID + (os.getpid() % (1 << 18)) * 64 + spec.number % 64


# Choosing -------------------------------------------------------------------------------------------------------------------


def candidates() -> list[Isolation]:
    """The tiers that might be had on this system, best first."""
    if sys.platform != "linux":
        return []
    namespaces = [True] if os.getuid() else [False, True]
    return [*(Isolation("sandbox-a", user_namespace=own) for own in namespaces), Isolation("sandbox-b")]


@cache
def probed(tier: str) -> tuple[Isolation | None, str]:
    """The tier, with what its probe answered; or None, and why it is not to be had here."""
    why = "it needs Linux"
    for isolation in candidates():
        if isolation.name != tier:
            continue
        try:
            answers = run_probe(isolation)
        except ProbeFailed as error:
            why = str(error)
            continue
        needed = MUST_BE_CLOSED[tier]
        still_open = [hole for hole in needed if answers.get(hole) != "closed"]
        if not still_open:
            return Isolation(isolation.name, answers, isolation.user_namespace), ""
        why = f"its probe found open: {', '.join(still_open)}"
    return None, why


def run_probe(isolation: Isolation) -> dict[str, str]:
    """Run the probe inside a tier. Raises ProbeFailed with the reason where it does not come back."""
    if isolation.name == "sandbox-a" and not shutil.which("bwrap"):
        raise ProbeFailed("bubblewrap is not installed (the package bubblewrap has it)")
    if isolation.name == "sandbox-b" and not shutil.which("setpriv"):
        raise ProbeFailed("setpriv is not installed (the package util-linux has it)")
    try:
        filter_program()
    except (RuntimeError, ImportError, OSError) as error:
        raise ProbeFailed(f"seccomp is not to be had: {error} (the package libseccomp2 has the library)") from error
    with Canary() as canary, tempfile.TemporaryDirectory(prefix="bakeoff-probe-") as scratch:
        try:
            with isolation.start(
                ["harness.execution.child.probe", json.dumps(canary.targets)],
                ProcessSpec(Path(scratch)),
                fds=[],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                try:
                    said, complaint = process.communicate(timeout=PROBE_LIMIT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise ProbeFailed("the probe did not end") from None
        except OSError as error:
            raise ProbeFailed(str(error)) from error
        if process.returncode:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise ProbeFailed(lines[-1] if lines else f"the probe ended with {process.returncode}")
        return canary.verdict(json.loads(said))


def choose(wanted: str, note: Callable[[str], None] = lambda message: None, hidden: Sequence[Path] = ()) -> Isolation:
    """The tier for ``auto``, ``sandbox`` (a or b), ``process``, or a tier by name.

    Raises UsageError for one that is not to be had. ``auto`` takes what there is, and tells ``note`` where that is no sandbox.
    ``hidden`` are folders that a sandbox shall not see even where a library folder holds them.
    """
    if wanted == "process":
        return Isolation()
    if wanted not in ("auto", "sandbox", *TIERS):
        raise UsageError(f"isolation should be auto, sandbox, {', '.join(TIERS)}; it is {wanted!r}")
    reasons = []
    for tier in TIERS[:2] if wanted in ("auto", "sandbox") else (wanted,):
        found, why = probed(tier)
        if found:
            return Isolation(found.name, found.answers, found.user_namespace, tuple(path.resolve() for path in hidden))
        reasons.append(f"{tier}: {why}")
    if wanted != "auto":
        raise UsageError(
            f"isolation {wanted!r} is not to be had here ({'; '.join(reasons)}); `bakeoff doctor` says more, and "
            "--isolation process runs code that you trust without it"
        )
    note(
        f"no sandbox here ({'; '.join(reasons)}), so submissions run as ordinary processes and could read what you can: run only "
        "code that you trust; its rows say isolation process"
    )
    return Isolation()


def sweep() -> None:
    """Remove the scratch folders of harnesses that were killed. A folder's name holds its owner's process number."""
    for folder in Path(tempfile.gettempdir()).glob("bakeoff-[0-9]*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists() and sys.platform == "linux":
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
