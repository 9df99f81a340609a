"""Tiers of isolation: probe which of them work on this machine, and start processes in them.

- ``sandbox-a``: bubblewrap (own mounts, processes, network), seccomp, Landlock, resource limits.
- ``sandbox-b``, where namespaces are denied: Landlock and seccomp on an ordinary process, another user where root allows it.
- ``process``: own process group, scratch folder and environment. Its code can read everything that the user can read.

A tier counts as available after `run_probe` has started a process in it that attacks the parent and fails. A request for an
unavailable tier raises; only ``auto`` takes a lower tier, with a note.
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
from harness.execution.parent import proc_masks
from harness.execution.parent.canary import MUST_BE_CLOSED, Canary
from harness.execution.shared.folders import remove_tree
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
"""Scratch folder inside a tier-A sandbox; it does not exist on the machine."""
ETC_FILES = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives", "OpenCL", "fonts", "mime.types")
FIRST_UID = 0x7000_0000
"""First of a range of unused user ids. If the parent is root, each worker gets its own id, so that workers cannot touch each
other."""
PROBE_LIMIT_SECONDS = 20.0
"""Seconds for which `run_probe` waits for the answers."""

_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
"""Executor whose one thread starts all processes and lives as long as the harness: bubblewrap dies with the *thread* that
started it."""


@dataclass(frozen=True)
class ProcessSpec:
    """Resources of one process in a tier of isolation.

    ``disk`` is the size in bytes of each writable folder in tier A. ``rlimits`` are resource limits by name, such as RLIMIT_CPU.
    ``number`` sets the user id; see `unused_uid`. ``visible`` are paths that a sandbox may read, beside the libraries.
    """

    scratch: Path
    disk: int = 1 << 30
    rlimits: Mapping[str, int] = field(default_factory=dict)
    number: int = 0
    threads: int = 1
    visible: tuple[Path, ...] = ()
    masked: tuple[Path, ...] = ()
    """Parts of ``visible`` that stay hidden."""


@dataclass(frozen=True)
class Isolation:
    """Chosen tier of isolation. Rows of a board record ``name`` and the probe's ``answers`` (attempt: open or closed).

    ``user_namespace``: tier A drops its rights in a user namespace, as nobody; otherwise root starts it and it changes its user.
    ``hidden`` folders are masked in tier A.
    """

    name: str = "process"
    answers: Mapping[str, str] = field(default_factory=dict)
    user_namespace: bool = False
    hidden: tuple[Path, ...] = ()

    @property
    def sandboxed(self) -> bool:
        return self.name != "process"

    @property
    def has_own_files(self) -> bool:
        """True if the scratch folder is inside the sandbox, in memory, and not on this machine's disk."""
        return self.name == "sandbox-a"

    def start(
        self, arguments: Sequence[str], spec: ProcessSpec, *, fds: Sequence[int], **options: Any
    ) -> subprocess.Popen[bytes]:
        """Run ``python -m`` with ``arguments`` (a module of Bakeoff and its arguments) in this tier, and return the process.

        The process inherits the descriptors ``fds``. ``options`` go to `subprocess.Popen`. Raises OSError if the start fails.
        """
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
                **dict(zip(("read", "list"), readable_paths(spec.visible, self.masks(spec)), strict=True)),
                "write": [str(spec.scratch), *device_nodes()],
            }
            drop = ["--bounding-set", "-all"] if os.getuid() == 0 and uid is None else []
            before = ["setpriv", *drop, "--inh-caps", "-all", "--ambient-caps", "-all", "--pdeathsig", "KILL", "--"]
            command = [*before, *python, json.dumps(locks), *arguments]
            return self._spawn(command, fds, cwd=spec.scratch, env=self.environment(spec), **options)
        if not self.user_namespace:
            locks["uid"] = unused_uid(spec)
        locks |= {"read": ["/"], "write": ["/tmp", "/dev"]}  # noqa: S108
        with tempfile.TemporaryFile() as program, contextlib.ExitStack() as opened:
            program.write(filter_program())
            program.seek(0)
            copies = proc_masks.open_copies()
            for fd, _ in copies:
                opened.callback(os.close, fd)
            before = [*self._bubblewrap(spec, copies), "--seccomp", str(program.fileno()), "--"]
            command = [*before, *python, json.dumps(locks), *arguments]
            passed = [*fds, program.fileno(), *(fd for fd, _ in copies)]
            return self._spawn(command, passed, env=self.environment(spec), **options)

    def masks(self, spec: ProcessSpec) -> list[Path]:
        """Return the paths that the process must not see: a package that the process needs is hidden in parts alone."""
        needed = {path.resolve() for path in spec.visible}
        return [*(path for path in self.hidden if path not in needed), *spec.masked]

    def environment(self, spec: ProcessSpec) -> dict[str, str]:
        """Return the environment variables of a process in this tier.

        A few are inherited, none with secrets; the home is the scratch folder; numbers of threads are fixed.
        """
        kept = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        scratch = SANDBOX_SCRATCH if self.has_own_files else str(spec.scratch)
        fixed = {
            # torch must count GPUs through NVML: a CUDA call before a fork breaks CUDA in every fork.
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

    def _bubblewrap(self, spec: ProcessSpec, copies: Sequence[tuple[int, str]]) -> list[str]:
        """Return the bubblewrap command: libraries read-only, writable folders in memory, own process ids and no network.

        ``copies`` are open files with the paths at which the sandbox sees them.
        """
        command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        command += ["--die-with-parent", "--hostname", "bakeoff", "--cap-drop", "ALL"]
        if self.user_namespace:
            command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        else:
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        made: set[Path] = set()

        def folders(path: Path) -> list[str]:
            """Return bubblewrap's arguments that make the missing parent folders of a path, readable for all users."""
            missing = [parent for parent in reversed(path.parents) if parent not in made and parent != Path("/")]
            made.update(missing)
            return [word for parent in missing for word in ("--perms", "0755", "--dir", str(parent))]

        command += ["--proc", "/proc", *proc_masks.masks(), "--dev", "/dev"]
        for folder in ("/dev/shm", "/tmp"):  # noqa: S108, the sandbox's own
            command += ["--size", str(spec.disk), "--perms", "1777", "--tmpfs", folder]
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
        for path in self.masks(spec):
            if not path.exists() or not any(path.is_relative_to(other) for other in seen):
                continue
            if path.is_dir():
                command += ["--size", "4096", "--tmpfs", str(path), "--remount-ro", str(path)]
            else:
                command += ["--ro-bind", "/dev/null", str(path)]
        for node in gpu_nodes():
            command += ["--dev-bind", node, node]
        for cores in proc_masks.processor_folders():
            command += [*folders(cores), "--ro-bind", str(cores), str(cores)]
        for fd, copy in copies:
            inside = [] if copy.startswith("/proc/") else folders(Path(copy))
            command += [*inside, "--perms", "0444", "--ro-bind-data", str(fd), copy]
        return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SANDBOX_SCRATCH]

    @staticmethod
    def _spawn(command: Sequence[str], fds: Sequence[int], **options: Any) -> subprocess.Popen[bytes]:
        start: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
            command, pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
        return _spawner.submit(start).result()


@cache
def filter_program() -> bytes:
    """Return the seccomp filter of tier A as a BPF program."""
    with tempfile.TemporaryFile() as file:
        export_filter(file)
        file.seek(0)
        return file.read()


@cache
def library_folders() -> tuple[Path, ...]:
    """Return the folders outside /usr with Python, its libraries (also CUDA) and this package. All sandboxes can read them."""
    package = Path(__file__).parent.parent.parent
    paths = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent, package]
    paths += [Path(sysconfig.get_path("stdlib"))]
    # Other folders of sys.path may be projects with private files.
    paths += [Path(folder) for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    paths += [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    paths += [Path(os.environ["CUDA_HOME"])] if os.environ.get("CUDA_HOME") else []
    chosen: list[Path] = []
    for path in sorted({path.absolute() for path in paths if path.is_dir()}, key=lambda path: len(path.parts)):
        # Never show a whole home folder or the root folder.
        if path in (Path("/"), Path.home()) or path.is_relative_to("/usr"):
            continue
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return tuple(chosen)


def gpu_nodes() -> list[str]:
    """Return the paths of the device files of NVIDIA GPUs, which CUDA opens."""
    return sorted(str(path) for path in Path("/dev").glob("nvidia*") if stat.S_ISCHR(path.stat().st_mode))


def device_nodes() -> list[str]:
    """Return the paths of the device files that a tier-B process may write."""
    return [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")] + gpu_nodes()


def readable_paths(visible: Sequence[Path] = (), hidden: Sequence[Path] = ()) -> tuple[list[str], list[str]]:
    """Return the paths that tier B may read with all below them, and the folders that it may list.

    It may read libraries, ``visible`` paths, and /proc as far as the kernel allows. Landlock cannot take a part of a folder back.
    So of a folder with ``hidden`` paths in it the other parts are granted.
    """
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc", "/sys/devices/system"]
    granted, listed = [], []
    pending = [Path(path) for path in (*system, *(f"/etc/{name}" for name in ETC_FILES))]
    pending += [*library_folders(), *visible]
    for path in pending:  # grows while it is read
        real = path.resolve()
        if real in hidden:
            continue
        if any(secret.is_relative_to(real) for secret in hidden):
            listed.append(str(path))
            pending += sorted(path.iterdir())
        else:
            granted.append(str(path))
    return granted, listed


def readable_by_others() -> bool:
    """Return whether another user of this machine can reach the interpreter, the libraries and this package."""
    for path in library_folders():
        for part in (path, *path.parents):
            if not part.stat().st_mode & stat.S_IXOTH:
                return False
    return True


def unused_uid(spec: ProcessSpec) -> int:
    """Return a user id for the worker ``spec.number``. The last 64 workers of a harness have different ids."""
    return FIRST_UID + (os.getpid() % (1 << 18)) * 64 + spec.number % 64


# Choosing -------------------------------------------------------------------------------------------------------------------


def candidates() -> list[Isolation]:
    """Return the sandbox tiers that this system may support, not yet probed, best first; empty outside Linux."""
    if sys.platform != "linux":
        return []
    namespaces = [True] if os.getuid() else [False, True]
    return [*(Isolation("sandbox-a", user_namespace=own) for own in namespaces), Isolation("sandbox-b")]


@cache
def probed(tier: str) -> tuple[Isolation | None, str]:
    """Return an available tier with the probe's answers, and "". Return None and the reason for an unavailable tier.

    Each tier is probed once; later calls return the same.
    """
    reason = "it needs Linux"
    for isolation in candidates():
        if isolation.name != tier:
            continue
        try:
            answers = run_probe(isolation)
        except ProbeFailed as error:
            reason = str(error)
            continue
        needed = MUST_BE_CLOSED[tier]
        still_open = [attempt for attempt in needed if answers.get(attempt) != "closed"]
        if not still_open:
            return Isolation(isolation.name, answers, isolation.user_namespace), ""
        reason = f"its probe found open: {', '.join(still_open)}"
    return None, reason


def run_probe(isolation: Isolation) -> dict[str, str]:
    """Run the probe inside a tier and return its answers (attempt: "open" or "closed").

    Raises ProbeFailed with the reason if the probe cannot run.
    """
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
                    output, errors = process.communicate(timeout=PROBE_LIMIT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise ProbeFailed("the probe did not end") from None
        except OSError as error:
            raise ProbeFailed(str(error)) from error
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines()
            raise ProbeFailed(lines[-1] if lines else f"the probe ended with {process.returncode}")
        return canary.verdict(json.loads(output))


def choose(wanted: str, note: Callable[[str], None] = lambda message: None, hidden: Sequence[Path] = ()) -> Isolation:
    """Return the tier that a user has ``wanted``: ``auto``, ``sandbox`` (the better one of a and b), or the name of a tier.

    Raises UsageError for an unavailable tier. ``auto`` takes the best available tier, and calls ``note`` with a warning if that is
    no sandbox. ``hidden`` folders are masked in tier A, even inside a library folder.
    """
    if wanted == "process":
        return Isolation()
    if wanted not in ("auto", "sandbox", *TIERS):
        raise UsageError(f"isolation should be auto, sandbox, {', '.join(TIERS)}; it is {wanted!r}")
    reasons = []
    for tier in TIERS[:2] if wanted in ("auto", "sandbox") else (wanted,):
        available, reason = probed(tier)
        if available:
            return Isolation(
                available.name, available.answers, available.user_namespace, tuple(path.resolve() for path in hidden)
            )
        reasons.append(f"{tier}: {reason}")
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
    """Remove the scratch folders on disk of harnesses that have ended. A folder's name contains the process id of its harness."""
    for folder in Path(tempfile.gettempdir()).glob("bakeoff-[0-9]*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists() and sys.platform == "linux":
            remove_tree(folder)
