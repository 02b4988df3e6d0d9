"""Nothing is allocated while a decoder generates: a preloaded counter sees every call of the allocator."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
static atomic_long calls;
static atomic_int counting;
long allocations(int on) { long n = atomic_exchange(&calls, 0); atomic_store(&counting, on); return n; }
static void seen(void) { if (atomic_load(&counting)) atomic_fetch_add(&calls, 1); }
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { seen(); return __libc_malloc(n); }
void *calloc(size_t a, size_t b) { seen(); return __libc_calloc(a, b); }
void *realloc(void *p, size_t n) { seen(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { seen(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { seen(); return __libc_memalign(a, n); }
"""

PROGRAM = r"""
import ctypes, gc, sys
import numpy as np
from alexandra.backends.decode import Generator, Sampling
from alexandra.backends.gguf_export import converted
from tests.backends.decoders import decoder, tokens
count = ctypes.CDLL(None).allocations
for kind in ("F32", "BF16", "Q8_0", "Q4_0"):
    generator = Generator(converted(decoder("qwen3"), kind), slots=3, chunk=16, threads=2)
    session = generator._sessions[0]
    generator.generate([tokens(5)] * 4, Sampling(20))  # the pool's threads start here
    for row in range(7):
        prompt = np.array(tokens(9 + row, seed=row), np.int32)
        session.submit(prompt, (0.9, 0.9, 1.1), (30, 25, 3), (row, 7, 0), [], False, [])
    session.run(1)
    gc.disable()
    count(1)
    left = session.run(1000)
    made = count(0)
    gc.enable()
    assert left == 0 and session.steps > 50, (left, session.steps)
    print(kind, made)
    data = np.ones(1 << 16, np.float32)
    count(1)
    bytes(1 << 20)
    assert count(0) > 0  # the counter does count
"""


@pytest.mark.slow
def test_generating_allocates_nothing(repository: Path, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    (tmp_path / "counter.c").write_text(COUNTER)
    library = tmp_path / "counter.so"
    built = subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, tmp_path / "counter.c"])
    if built.returncode:
        pytest.skip("this C library has no __libc_malloc to pass on to")
    env = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(["src", "."])}
    made = subprocess.run([sys.executable, "-c", PROGRAM], cwd=repository, env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    assert made.stdout.split() == ["F32", "0", "BF16", "0", "Q8_0", "0", "Q4_0", "0"]
