"""Run as a program: walk a cache's LMDB file, every record against its checksum; print "sound" or what is wrong.

A process of its own, because a damaged tree can crash whoever walks it. Imports lmdb and the standard library only.
"""

from __future__ import annotations

import hashlib
import struct
import sys

HEAD = struct.Struct("<4s16sI16s")


def main(folder: str, *roots: str) -> str:
    sys.path.extend(roots)
    import lmdb

    environment = lmdb.open(folder, readonly=True, lock=False, max_dbs=0)
    with environment.begin(buffers=True) as reading:
        count = 0
        for key, value in reading.cursor():
            magic, own, length, checksum = HEAD.unpack_from(value)
            payload = bytes(value[HEAD.size :])
            if own != bytes(key) or length != len(payload) or magic != b"AxV1":
                return f"record {count} is damaged"
            if hashlib.blake2b(own + payload, digest_size=16).digest() != checksum:
                return f"record {count} is damaged"
            count += 1
        entries = environment.stat()["entries"]
    return "sound" if count == entries else f"{count} of {entries} records can be reached"


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
