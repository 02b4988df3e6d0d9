"""Peak memory of attention over long sequences, forward and backward: windowed, windowed with stride, and full.

    python benchmarks/attention_memory.py [--lengths 4096 16384 65536] [--device cpu] [--json out.json]
    python benchmarks/attention_memory.py --device cuda --lengths 131072 1048576 --dtype bfloat16

One layer of width 256 and 4 heads, window 512. On the CPU each figure is the growth of the peak resident size of a
process of its own; on a GPU it is torch's own peak. `per_position` should not grow where memory is linear.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from delivery import deliver

os.environ.setdefault("OMP_NUM_THREADS", "1")

KINDS = {"window": "window=512", "window, globals": "window=512 globals=64", "full": ""}


def measured(kind: str, length: int, device: str, dtype: str) -> int:
    """Bytes at the peak beyond what the model alone needs."""
    import torch

    from alexandra.backends.pytorch import module
    from alexandra.lang.nureon import compile_network

    text = f"""LAYER INPUT name=x shape=(SEQ, 256) LAYER ATTENTION name=a heads=4 {KINDS[kind]}
    LAYER OUTPUT name=y CONNECT x -> a -> y"""
    found = module(compile_network(text)).to(device, getattr(torch, dtype))
    small = torch.randn(1, 1024, 256, device=device, dtype=getattr(torch, dtype))
    found({"x": small})["y"].square().mean().backward()
    if device == "cpu":
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    else:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    x = torch.randn(1, length, 256, device=device, dtype=getattr(torch, dtype))
    found({"x": x})["y"].square().mean().backward()
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return torch.cuda.max_memory_allocated() - before


def peaks(kinds: Sequence[str], lengths: Sequence[int], device: str, dtype: str) -> list[dict[str, object]]:
    """A row for every kind and length, each measured in a process of its own."""
    rows: list[dict[str, object]] = []
    for kind in kinds:
        for length in lengths:
            command = [sys.executable, __file__, "--device", device, "--dtype", dtype]
            done = subprocess.run([*command, "--one", kind, str(length)], capture_output=True, text=True, check=True)
            peak = int(done.stdout.strip().splitlines()[-1])
            rows.append({"kind": kind, "length": length, "peak_bytes": peak, "per_position": round(peak / length)})
            print(rows[-1], file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--kinds", nargs="+", default=["window", "window, globals"], choices=KINDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.one:
        print(measured(args.one[0], int(args.one[1]), args.device, args.dtype))
        return 0
    rows = peaks(args.kinds, args.lengths, args.device, args.dtype)
    deliver({"device": args.device, "dtype": args.dtype, "rows": rows}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
