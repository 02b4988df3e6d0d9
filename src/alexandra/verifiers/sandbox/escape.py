"""Attempts to leave the sandbox, and the level that holds: what was put on, and which attempts succeeded.

PROBES is the literal table: a small program each that prints ESCAPED if it reached what it should not. They run against
things that really exist outside: a readable file, a listening port, an abstract socket, this process. A level is
"full" when every layer is on and no probe succeeds; otherwise it names what is missing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from alexandra.verifiers.sandbox.host import Job, Limits, Sandbox

ESCAPED = b"ESCAPED"
QUICK = ("file by path", "write outside", "tcp", "signal the host", "fork", "memory", "proc", "inherited files")
_HEAD = "import os, sys, ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\ndef won(): print('ESCAPED')\n"
_CALL = "r = libc.syscall({}, {})\nif r >= 0: won()"

# name -> source; {secret} is a file outside, {port} listens, {abstract} is a socket's name, {pid} runs outside
PROBES: dict[str, str] = {
    "file by path": "if '{token}' in open({secret!r}).read(): won()",
    "passwords": "if open('/etc/passwd').read(): won()",
    "home folders": "if os.listdir('/home') or os.listdir('/root'): won()",
    "file by climbing": "if '{token}' in open('../' * 20 + {secret!r}.lstrip('/')).read(): won()",
    "file by symbolic link": "os.symlink({secret!r}, 'a'); won() if '{token}' in open('a').read() else 0",
    "file by linked folder": "os.symlink('/', 'r'); won() if '{token}' in open('r' + {secret!r}).read() else 0",
    "file by hard link": "os.link({secret!r}, 'h'); won()",
    "file by proc root": "if open('/proc/1/root' + {secret!r}).read(): won()",
    "file by descriptor": "fd = os.open('/', os.O_PATH)\nos.chdir('/'); os.fchdir(fd)\n"
    "if os.path.exists({secret!r}): won()",
    "file by handle": _CALL.format(304, "-100, ctypes.create_string_buffer(128), 0"),
    "write outside": "open({secret!r} + 'x', 'w').write('x'); won()",
    "write to the system": "open('/usr/x', 'w'); won()",
    "write to Python": "open(os.path.dirname(os.__file__) + '/x.py', 'w'); won()",
    "write to shared memory": "open('/dev/shm/x', 'w').write('x'); won()",
    "device node": "os.mknod('d', 0o060666, os.makedev(8, 0)); open('d', 'rb').read(1); won()",
    "disk": "open('/dev/vda', 'rb').read(1) or open('/dev/sda', 'rb').read(1); won()",
    "kernel memory": "open('/dev/mem', 'rb').read(1); won()",
    "mount": "if libc.mount(b'proc', b'/work', b'proc', 0, None) == 0: won()",
    "change root": "os.mkdir('c'); os.chroot('c'); os.chdir('../' * 20); won()",
    "change root folder": _CALL.format(155, "b'.', b'.'"),
    "set-uid file": "open('s', 'w').close(); os.chmod('s', 0o4755); os.setuid(0); won()",
    "tcp": "import socket; socket.create_connection(('127.0.0.1', {port}), 1); won()",
    "udp": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53)); won()",
    "raw socket": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); won()",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); won()",
    "abstract socket": "import socket; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + {abstract!r}); won()",
    "name look-up": "import socket; socket.getaddrinfo('localhost', 80); socket.create_server(('', 0)); won()",
    "fork": "os.fork(); won()",
    "vfork": _CALL.format(58, "0"),
    "clone": _CALL.format(56, "17, 0, 0, 0, 0"),
    "clone3": _CALL.format(435, "ctypes.create_string_buffer(b'\\0' * 32 + b'\\x11' + b'\\0' * 55, 88), 88"),
    "program": "import subprocess; subprocess.run(['/bin/true'], check=True); won()",
    "exec": "os.execv('/bin/echo', ['echo', 'ESCAPED'])",
    "exec by descriptor": "fd = os.open('/bin/echo', os.O_RDONLY)\nos.execve(fd, ['echo', 'ESCAPED'], {{}})",
    "trace the parent": _CALL.format(101, "16, os.getppid(), 0, 0"),
    "read the parent": _CALL.format(310, "os.getppid(), 0, 0, 0, 0, 0"),
    "signal the host": "os.kill({pid}, 0); won()",
    "signal the parent": "os.kill(os.getppid() or 99, 0); won()",
    "signal a group": "os.killpg({pid}, 0); won()",
    "signal by descriptor": _CALL.format(434, "{pid}, 0"),
    "memory": "x = bytearray(8 << 30); x[::4096] = b'x' * len(x[::4096]); won()",
    "locked memory": "if libc.mlockall(3) == 0: won()",
    "memory file": _CALL.format(319, "b'm', 0"),
    "huge stack": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); won()",
    "more processes": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999)); won()",
    "others' limits": _CALL.format(302, "{pid}, 7, 0, ctypes.create_string_buffer(16)"),
    "much on disk": "[open(str(i), 'wb').write(bytes(1 << 20)) for i in range(64)]; won()",
    "proc": "if os.listdir('/proc'): won()",
    "proc environment": "if open('/proc/{pid}/environ', 'rb').read(): won()",
    "kernel settings": "if os.listdir('/sys'): won()",
    "become root": "os.setuid(0); won()",
    "become root again": "os.setresuid(0, 0, 0); won()",
    "new namespaces": "if libc.unshare(0x10000000) == 0: won()",
    "enter namespaces": "if libc.setns(0, 0) == 0: won()",
    "kernel program": _CALL.format(321, "0, ctypes.create_string_buffer(128), 128"),
    "rings": _CALL.format(425, "8, ctypes.create_string_buffer(256)"),
    "performance counters": _CALL.format(298, "ctypes.create_string_buffer(128), 0, -1, -1, 0"),
    "page faults": _CALL.format(323, "0"),
    "keys": _CALL.format(250, "0, -3, 1"),
    "kernel log": _CALL.format(103, "3, ctypes.create_string_buffer(64), 64"),
    "kernel module": _CALL.format(175, "0, 0, b''"),
    "clock": _CALL.format(227, "0, ctypes.create_string_buffer(16)"),
    "host name": "import socket; socket.sethostname('x'); won()",
    "terminal input": "import fcntl; [fcntl.ioctl(fd, 0x5412, b'x') for fd in (0, 1, 2)]; won()",
    "other numbering": _CALL.format("0x40000000 + 57", "0"),
    "32-bit calls": "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b802000000cd80c3'))\n"
    "f = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nif f() >= 0: won()",
    "inherited files": "for fd in range(3, 1024):\n    try: os.fstat(fd)\n    except OSError: continue\n    won()",
    "processor for ever": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (9999, 9999)); won()",
}


@dataclass(frozen=True)
class Level:
    """name: "full", or "weaker: ..." with what is missing. escapes: the probes that succeeded, of `tried`."""

    name: str
    layers: Mapping[str, str]
    escapes: tuple[str, ...]
    tried: int


def level(sandbox: Sandbox, names: Sequence[str] = QUICK) -> Level:
    """Measure what holds here and now; all of PROBES with `names=tuple(PROBES)`."""
    layers: dict[str, str] = {}
    escapes = []
    with _outside() as facts:
        for name in names:
            source = _HEAD + PROBES[name].format(**facts)
            ran = sandbox.run_many([Job(source, limits=Limits(seconds=2.0, memory_bytes=256 << 20))])[0]
            layers |= ran.layers
            if ESCAPED in ran.stdout:
                escapes.append(name)
    missing = [layer for layer, state in layers.items() if not state.startswith("ok")]
    words = []
    if not layers:
        words.append("no job could be started")
    if missing:
        words.append("without " + ", ".join(missing))
    if escapes:
        words.append("open: " + ", ".join(escapes))
    return Level("weaker: " + "; ".join(words) if words else "full", layers, tuple(escapes), len(names))


@contextlib.contextmanager
def _outside() -> Iterator[dict[str, object]]:
    """Things to reach for: a file that anybody may read, a listening port, an abstract socket, this process."""
    token, abstract = secrets.token_hex(8), "alexandra-" + secrets.token_hex(4)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as port:
        os.chmod(folder, 0o777)
        secret = os.path.join(folder, "secret")
        with open(secret, "w", encoding="utf-8") as out:
            out.write(token)
        os.chmod(secret, 0o666)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("\0" + abstract)
            listening.listen()
            yield {
                "token": token, "secret": secret, "port": port.getsockname()[1], "abstract": abstract,
                "pid": os.getpid(),
            }  # fmt: skip
