"""The process that sandboxes are forked from: started once, so that a start costs two forks and no interpreter.

It shuts itself into a file system of its own (read-only system and Python, nothing else) and then answers requests: a
guard process makes new namespaces, forks the confined process as process 1 of them, enforces the deadline and reports
how it ended. Every layer that was put on, or why not, is reported before foreign code runs. Standard library only.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import shutil
import signal
import socket
import struct
import sys
import tempfile
import traceback
from typing import Any

from alexandra.verifiers.sandbox import linux

# imported once, before the first fork, for the programs that follow
FOR_PROGRAMS = (
    "array", "ast", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "operator", "re", "string",
    "textwrap", "time", "typing", "unicodedata",
)  # fmt: skip
HEADER = struct.Struct("<I")
START_SECONDS = 60.0  # for walls to be made; a program's own time counts from when it begins
NOBODY = 61337
WORK = "/work"
PLACES = ("/mnt", "/media", "/srv", "/tmp")  # one of them gets the new root mounted over it, unseen outside
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/alternatives", "/etc/ocamlfind.conf")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
ISOLATED = (
    ("mounts", linux.NEW_MOUNTS), ("processes", linux.NEW_PIDS), ("network", linux.NEW_NET),
    ("ipc", linux.NEW_IPC), ("host name", linux.NEW_UTS), ("cgroup", linux.NEW_CGROUP),
)  # fmt: skip
Layers = dict[str, str]


def main(channel: int, readable: list[str]) -> None:
    """Serve requests on the socket `channel` until it closes; `readable`: further folders to show, read-only."""
    sys.path.pop(0)
    for name in FOR_PROGRAMS:
        importlib.import_module(name)
    folders = [path for path in (*SYSTEM, sys.base_prefix, *readable) if os.path.exists(path)]
    layers: Layers = {}
    try:
        privileged = os.geteuid() == 0
        if not privileged:
            linux.map_user_to_root()
        layers["user"] = "ok: an unused user" if privileged else "ok: a user namespace"
        linux.unshare(linux.NEW_MOUNTS, "a mount namespace")
        _build_root(folders)
        layers["root folder"] = "ok"
    except OSError as error:
        layers.setdefault("user", f"no: {error}")
        layers["root folder"] = f"no: {error}"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    connection = socket.socket(fileno=channel)
    gc.collect()
    gc.freeze()
    while True:
        try:
            head, fds, _, _ = socket.recv_fds(connection, HEADER.size, 16)
            if len(head) < HEADER.size:
                return
            request = json.loads(_exactly(connection, HEADER.unpack(head)[0]))
        except OSError:
            return
        if os.fork() == 0:
            code = 70
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.close()
                code = _guard(request, fds, folders, layers)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        for fd in fds:
            os.close(fd)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise OSError("the channel closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _build_root(folders: list[str]) -> None:
    """A root folder in memory with `folders` bound read-only, and this process inside it."""
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    root = next(path for path in PLACES if os.path.isdir(path) and not any(f.startswith(path) for f in folders))
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=0755")
    for path in folders:
        target = root + path
        if os.path.islink(path):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(os.readlink(path), target)
            continue
        if os.path.exists(target):
            continue
        if os.path.isfile(path):
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            with open(target, "w"):
                pass
        else:
            os.makedirs(target, mode=0o755)
        linux.bind_read_only(os.path.realpath(path), target)
    os.makedirs(root + "/dev")
    for device in DEVICES:
        with open(root + device, "w"):
            pass
        linux.mount(device, root + device, flags=linux.MS_BIND)
    for folder in (WORK, "/tmp"):
        os.mkdir(root + folder)
    linux.mount(
        "", root, flags=linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV, options="size=1m"
    )
    linux.pivot_into(root)


def _guard(request: dict[str, Any], fds: list[int], folders: list[str], zygotes: Layers) -> int:
    """Make the namespaces, fork the confined process, end it at the deadline; the status pipe gets how it ended."""
    linux.die_with_parent(signal.SIGKILL)
    status = fds[3]
    os.write(status, json.dumps({"guard": os.getpid()}).encode() + b"\n")
    layers = dict(zygotes)
    rooted = layers["root folder"] == "ok"
    for name, flag in ISOLATED:
        try:
            linux.unshare(flag, name)
            layers[name] = "ok"
        except OSError as error:
            layers[name] = f"no: {error}"
    work = WORK
    if rooted and layers["mounts"] == "ok":
        options = f"size={int(request['files_bytes'])},mode=0777,nr_inodes=4096"
        linux.mount("tmpfs", WORK, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    else:
        work = tempfile.mkdtemp(prefix="alexandra-work-")
        os.chmod(work, 0o777)
    why = ""

    def end(number: int, frame: object) -> None:
        nonlocal why
        why = why or ("timeout" if number == signal.SIGALRM else "stopped")
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, signal.SIGTERM))
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(begun)
        _confined(request, [*fds, begins], work, folders, layers)
    os.close(begins)
    signal.signal(signal.SIGALRM, end)
    signal.signal(signal.SIGTERM, end)
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGTERM))
    for fd in fds[:3] + fds[4:]:
        os.close(fd)
    os.read(begun, 1)  # ends when the program is about to begin: making its walls is not its time
    if not why:
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]))
    os.write(status, json.dumps({"begun": True}).encode() + b"\n")
    _, ended, used = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    report = {
        "code": os.waitstatus_to_exitcode(ended),
        "why": why,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "memory_bytes": used.ru_maxrss * 1024,
    }
    os.write(status, json.dumps(report).encode() + b"\n")
    if work != WORK:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _confined(request: dict[str, Any], fds: list[int], work: str, folders: list[str], layers: Layers) -> None:
    """Never returns: put on every layer, report them, run what was asked."""
    code = 71
    try:
        *fds, begins = fds
        status, begins = _own_fds(fds, begins)
        os.chdir(work)
        for name, text in request["files"].items():
            with open(os.path.join(work, os.path.basename(name)), "w", encoding="utf-8") as out:
                out.write(text)
        _confine(request, work, folders, layers)
        os.write(status, json.dumps({"layers": layers}).encode() + b"\n")
        os.close(status)
        os.close(begins)
        code = _run(request, work)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if stop.code is not None and not isinstance(stop.code, int):
            sys.stderr.write(f"{stop.code}\n")
    except BaseException:
        traceback.print_exc(limit=-8)
        code = 1
    finally:
        try:
            _exit_as_python_does()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def _exit_as_python_does() -> None:
    """Wait for the program's threads (also those that they start), then run what it registered for its end."""
    threading = sys.modules.get("threading")
    while threading is not None:
        others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
        waited = [thread for thread in others if not thread.daemon]
        if not waited:
            break
        waited[0].join()
    atexit._run_exitfuncs()


def _own_fds(fds: list[int], begins: int) -> tuple[int, int]:
    """0, 1, 2 and the links from 3 on; every other one is closed. Returns the new numbers of status and `begins`."""
    high = [os.dup2(fd, 100 + place, inheritable=True) for place, fd in enumerate([*fds, begins])]
    os.closerange(0, 100)
    for place in (0, 1, 2):
        os.dup2(high[place], place)
    for place, fd in enumerate(high[4:-1]):
        os.dup2(fd, 3 + place)
    last = 3 + len(high[4:-1])
    os.dup2(high[3], last)
    os.dup2(high[-1], last + 1)
    os.closerange(last + 2, 4096)
    return last, last + 1


def _confine(request: dict[str, Any], work: str, folders: list[str], layers: Layers) -> None:
    os.setsid()
    os.umask(0o022)
    is_program = bool(request["program"])
    if layers["user"].startswith("ok: an unused"):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    linux.die_with_parent(signal.SIGKILL)
    for name, act in (
        ("capabilities", linux.drop_capabilities),
        ("privileges", linux.no_new_privileges),
        ("memory of others", linux.not_dumpable),
    ):
        layers[name] = _tried(act)
    memory, seconds = int(request["memory_bytes"]), int(request["seconds"]) + 1
    num = 64 if is_program else 32
    layers["limits"] = _tried(lambda: linux.limit(memory, seconds, int(request["files_bytes"]), num))
    shown = [path for path in (*folders, *DEVICES) if os.path.exists(path)]
    layers["landlock"] = _tried(lambda: linux.landlock(shown, (work,)))
    own_pids = layers["processes"] == "ok"
    layers["system calls"] = _tried(lambda: linux.filter_calls(processes=is_program, signals=own_pids))


def _tried(act: Any) -> str:
    try:
        said = act()
        return f"ok: {said}" if said else "ok"
    except (OSError, ValueError) as error:
        return f"no: {error}"


def _run(request: dict[str, Any], work: str) -> int:
    environment = {"PATH": "/usr/bin:/bin", "HOME": work, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    if request["program"]:
        os.execve(request["program"][0], request["program"], environment)
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGTERM))
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w", 1 << 16), os.fdopen(2, "w", 1)
    for name in [name for name in sys.modules if name.split(".")[0] == "alexandra"]:
        del sys.modules[name]
    sys.argv = ["main.py"]
    sys.setrecursionlimit(3000)
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, 8 << 20))
    runpy.run_path(os.path.join(work, "main.py"), run_name="__main__")
    return 0
