"""Which system calls foreign code may make: an allow list, compiled to a seccomp filter (classic BPF).

What is not listed fails with EPERM; newer calls than the list knows fail with ENOSYS, so that the C library falls back.
Processes cannot be started (threads can), other processes' limits cannot be set, terminals cannot be typed into, and
no socket of any family but a local pair exists. The filter refuses any machine but the one its numbers belong to.
"""

from __future__ import annotations

import errno
import struct

ARCH_X86_64 = 0xC000003E
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0 = 0, 4, 16
_NEWEST_KNOWN = 441
CLONE_THREAD = 0x10000
AF_UNIX = 1
PR_SET_NAME = 15

# fmt: off
FILES = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8, "pread64": 17,
    "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "dup": 32, "dup2": 33, "sendfile": 40, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getdents": 78, "getcwd": 79,
    "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91, "umask": 95, "utime": 132, "statfs": 137,
    "fstatfs": 138, "readahead": 187, "getdents64": 217, "fadvise64": 221, "utimes": 235, "openat": 257,
    "mkdirat": 258, "futimesat": 261, "newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "utimensat": 280, "fallocate": 285,
    "dup3": 292, "preadv": 295, "pwritev": 296, "renameat2": 316, "copy_file_range": 326, "statx": 332,
    "close_range": 436, "openat2": 437, "faccessat2": 439,
}
MEMORY = {"mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28}
WAITING = {
    "poll": 7, "pipe": 22, "select": 23, "sched_yield": 24, "pause": 34, "nanosleep": 35, "getitimer": 36, "alarm": 37,
    "setitimer": 38, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockname": 51,
    "getpeername": 52, "setsockopt": 54, "getsockopt": 55, "futex": 202, "epoll_create": 213, "clock_nanosleep": 230,
    "epoll_wait": 232, "epoll_ctl": 233, "pselect6": 270, "ppoll": 271, "splice": 275, "epoll_pwait": 281,
    "timerfd_create": 283, "eventfd": 284, "timerfd_settime": 286, "eventfd2": 290, "epoll_create1": 291, "pipe2": 293,
    "epoll_pwait2": 441,
}
ABOUT_ITSELF = {
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "getpid": 39, "exit": 60, "wait4": 61, "uname": 63,
    "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "getgroups": 115, "getresuid": 118,
    "getresgid": 120, "getpgid": 121, "getsid": 124, "rt_sigpending": 127, "rt_sigtimedwait": 128,
    "rt_sigsuspend": 130, "sigaltstack": 131, "getpriority": 140, "sched_getparam": 143, "sched_getscheduler": 145,
    "sched_get_priority_max": 146, "sched_get_priority_min": 147, "arch_prctl": 158, "setrlimit": 160, "gettid": 186,
    "time": 201, "sched_getaffinity": 204, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "exit_group": 231, "waitid": 247, "set_robust_list": 273, "get_robust_list": 274,
    "getcpu": 309, "getrandom": 318, "membarrier": 324, "rseq": 334,
}
PROCESSES = {"clone": 56, "fork": 57, "vfork": 58, "execve": 59}  # for programs that are not Python, under a count
SIGNALS = {"kill": 62, "tgkill": 234}  # harmless in a process namespace of one's own, refused without
IOCTLS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX
# fmt: on
IOCTL, SOCKETPAIR, CLONE, PRCTL, PRLIMIT, CLONE3 = 16, 53, 56, 157, 302, 435


def program(*, processes: bool, signals: bool) -> bytes:
    """The filter as an array of struct sock_filter."""
    allowed = {**FILES, **MEMORY, **WAITING, **ABOUT_ITSELF}
    if processes:
        allowed |= PROCESSES
    if signals:
        allowed |= SIGNALS
    code = [(_LOAD, 0, 0, _ARCH), (_JEQ, 1, 0, ARCH_X86_64), (_RET, 0, 0, KILL), (_LOAD, 0, 0, _NR)]
    for number in sorted(allowed.values()):
        code += [(_JEQ, 0, 1, number), (_RET, 0, 0, ALLOW)]
    code += _first_argument_is(IOCTL, IOCTLS) + _first_argument_is(SOCKETPAIR, (AF_UNIX,))
    code += _first_argument_is(PRCTL, (PR_SET_NAME,)) + _first_argument_is(PRLIMIT, (0,))
    if not processes:  # a clone that makes a thread
        code += [(_JEQ, 0, 4, CLONE), (_LOAD, 0, 0, _ARG0), (_JSET, 0, 1, CLONE_THREAD), (_RET, 0, 0, ALLOW)]
        code += [(_RET, 0, 0, ERRNO | errno.EPERM)]
    code += [(_JEQ, 0, 1, CLONE3), (_RET, 0, 0, ERRNO | errno.ENOSYS)]
    code += [(_JGE, 0, 1, _NEWEST_KNOWN + 1), (_RET, 0, 0, ERRNO | errno.ENOSYS)]
    code += [(_RET, 0, 0, ERRNO | errno.EPERM)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _first_argument_is(number: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Allow call `number` when the argument that decides is one of `values`; ioctl's is its second."""
    offset = _ARG0 + (8 if number == IOCTL else 0)
    tests = [test for value in values for test in ((_JEQ, 0, 1, value), (_RET, 0, 0, ALLOW))]
    body = [(_LOAD, 0, 0, offset), *tests, (_RET, 0, 0, ERRNO | errno.EPERM)]
    return [(_JEQ, 0, len(body), number), *body]
