"""The kernel's means of confinement through ctypes: namespaces, mounts, Landlock, seccomp, capabilities, limits.

Each function either does what it says or raises OSError; nothing here decides policy. Runs before foreign code in a
process that imports the standard library only. Landlock's bits are used as far as the kernel's version has them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence

from alexandra.verifiers.sandbox import seccomp

NEW_MOUNTS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 4, 38, 22
_SYS_CAPSET, _SYS_PIVOT_ROOT = 126, 155
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# version -> number of bits of file rights
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_SINCE, _SCOPE_SINCE = 4, 6


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def unshare(flags: int, what: str = "unshare") -> None:
    _check(_libc().unshare(flags), what)


def map_user_to_root() -> None:
    """In a fresh user namespace: be root inside, the same user outside."""
    uid, gid = os.getuid(), os.getgid()
    unshare(NEW_USER, "a user namespace")
    for file, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{file}", "w") as out:
            out.write(line)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _libc().mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, f"mount {target}")


def bind_read_only(source: str, target: str) -> None:
    mount(source, target, flags=MS_BIND | MS_REC)
    mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)


def pivot_into(root: str) -> None:
    """Make `root` (a mount point) the root folder and let go of the old one."""
    os.chdir(root)
    _check(_libc().syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc().umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def die_with_parent(signal_number: int) -> None:
    _check(_libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "PR_SET_PDEATHSIG")


def no_new_privileges() -> None:
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def not_dumpable() -> None:
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")


def drop_capabilities() -> None:
    header = struct.pack("<Ii", 0x20080522, 0)
    _check(_libc().syscall(_SYS_CAPSET, header, bytes(24)), "capset")


def landlock_version() -> int:
    """The kernel's Landlock version; OSError when there is none."""
    return _check(_libc().syscall(_SYS_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1), "Landlock")


def landlock(read_only: Sequence[str], writable: Sequence[str]) -> str:
    """Confine this process to the folders given; returns what is confined: files, and as the kernel knows them tcp
    and scope (signals, abstract sockets)."""
    version = landlock_version()
    rights = (1 << _FILE_BITS[min(version, 5)]) - 1
    has_net, has_scope = version >= _NET_SINCE, version >= _SCOPE_SINCE
    attributes = struct.pack("<QQQ", rights, 3 if has_net else 0, 3 if has_scope else 0)
    size = 24 if has_scope else 16 if has_net else 8
    libc = _libc()
    rules = _check(libc.syscall(_SYS_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0), "Landlock rules")
    try:
        for paths, allowed in ((read_only, _EXECUTE | _READ_FILE | _READ_DIR), (writable, rights)):
            for path in paths:
                folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
                allow = allowed if os.path.isdir(path) else allowed & ~_READ_DIR
                rule = struct.pack("<Qi", allow, folder)
                _check(libc.syscall(_SYS_LANDLOCK_ADD, rules, 1, rule, 0), f"Landlock rule for {path}")
                os.close(folder)
        _check(libc.syscall(_SYS_LANDLOCK_RESTRICT, rules, 0), "Landlock")
    finally:
        os.close(rules)
    return f"version {version}: files" + (", tcp" if has_net else "") + (", signals" if has_scope else "")


def filter_calls(*, processes: bool, signals: bool) -> None:
    """Install the seccomp filter; needs `no_new_privileges` first."""
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOTSUP, f"the filter knows x86_64, this machine is {platform.machine()}")
    code = seccomp.program(processes=processes, signals=signals)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    _check(_libc().prctl(_PR_SET_SECCOMP, 2, header, 0, 0), "seccomp")


def limit(memory_bytes: int, cpu_seconds: int, file_bytes: int, num_processes: int) -> None:
    """Hard limits of this process and its children."""
    for what, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NPROC, num_processes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _, ceiling = resource.getrlimit(what)
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(what, (value, value))
