"""Decoder inference beside its peers, in the same run, pinned: llama.cpp on quantised files, transformers in float32.

    python benchmarks/decode.py [--rounds 7] [--threads 1 2] [--kinds Q4_0 Q8_0] [--json out.json] [--skip float32]

A Llama of 124 M parameters (12 layers, width 768, vocabulary 25,600; random weights) is written once as GGUF; both
engines read that file. decode: 64 tokens one by one after 8; prefill: 512 tokens at once. float32: 64 rows of 16
tokens of a 0.75 M-parameter Llama (4 layers, width 128) are continued by 32 tokens each, greedily, one thread.
Every engine is a process of its own, held to the cores it may use; rounds alternate between them, and times are
minima over rounds (`spread`: median over minimum). `ratio` is ours over theirs, in tokens per second. Decoding reads
every weight once a token, so each round also times plain reading of as many bytes by one thread (`read`, GB/s);
`share of reading` is the median over rounds of what decoding reaches of it. `peer` is what llama.cpp says of its build.
llama-cpp-python must be built natively; where GCC 12 builds llama.cpp's AMX code it crashes at run time:
CMAKE_ARGS="-DCMAKE_C_FLAGS='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16' -DCMAKE_CXX_FLAGS='(the same)'".
With AMX build it by clang 19 (docs/LOG.md); PYTHONPATH chooses among builds (`pip install --target`).
A peer that is not installed leaves its columns empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from delivery import deliver

GENERATED, PROMPT, ROWS, STEPS = 64, 512, 64, 32
LARGE = {"vocab": 25600, "width": 768, "layers": 12, "heads": 12, "kv_heads": 12, "hidden": 2048, "context": 1024}
SMALL = {"vocab": 256, "width": 128, "layers": 4, "heads": 4, "kv_heads": 4, "hidden": 288, "context": 64}


def decoder(sizes: dict[str, int], interleaved: bool) -> Any:
    """Random weights of a Llama: reading and multiplying them takes what trained ones would."""
    from alexandra.backends.decode import DecoderModel
    from alexandra.backends.decode_config import DecoderConfig, Rope
    from alexandra.backends.quant import stored
    from alexandra.rng import derive

    head = sizes["width"] // sizes["heads"]
    rope = Rope(10000.0, head, interleaved)
    config = DecoderConfig("llama", head_dim=head, eps=1e-5, rope=rope, **sizes)
    width, hidden, kv = config.width, config.hidden, config.kv_heads * head
    shapes = {"token_embd": (config.vocab, width), "output": (config.vocab, width), "output_norm": (width,)}
    for i in range(config.layers):
        block = {"attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (kv, width)}
        block |= {"attn_v": (kv, width), "attn_output": (width, width), "ffn_gate": (hidden, width)}
        block |= {"ffn_up": (hidden, width), "ffn_down": (width, hidden)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    tensors = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        noise = derive(0, name).uniform(size).reshape(shape).astype(np.float32) - 0.5
        values = np.ones(shape, np.float32) if len(shape) == 1 else noise * np.float32(3.4 / np.sqrt(shape[1]))
        tensors[f"{name}.weight"] = stored(values, f"{name}.weight")
    return DecoderModel(config, tensors)


def tokens(count: int, vocab: int) -> list[int]:
    return [(i * 7919 + 13) % vocab for i in range(count)]


# --- what each process can be asked to time ------------------------------------------------------------------


def ours(path: str, threads: int) -> dict[str, Callable[[], float]]:
    from alexandra.backends.decode import Generator, Sampling

    generator = Generator(path, context=1024, threads=threads)
    long, short = tokens(PROMPT, LARGE["vocab"]), tokens(8, LARGE["vocab"])

    def timed(prompt: list[int], count: int) -> float:
        start = time.perf_counter()
        generator.generate([prompt], Sampling(count, ignore_end=True))
        return time.perf_counter() - start

    def decode() -> float:
        first = min(timed(short, 1) for _ in range(3))
        return (timed(short, GENERATED + 1) - first) / GENERATED

    weights = np.ones(Path(path).stat().st_size // 8, np.uint64)

    def once() -> float:
        start = time.perf_counter()
        weights.max()
        return time.perf_counter() - start

    def read() -> float:
        return min(once() for _ in range(9))

    return {"decode": decode, "prefill": lambda: timed(long, 1) / PROMPT, "read": read}


def llama(path: str, threads: int) -> dict[str, Callable[[], float]]:
    from llama_cpp import Llama

    model = Llama(path, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    long, short = tokens(PROMPT, LARGE["vocab"]), tokens(8, LARGE["vocab"])

    def decode() -> float:
        model.reset()
        model.eval(short)
        start = time.perf_counter()
        for i in range(GENERATED):
            model.eval([long[i]])
        return (time.perf_counter() - start) / GENERATED

    def prefill() -> float:
        model.reset()
        start = time.perf_counter()
        model.eval(long)
        return (time.perf_counter() - start) / PROMPT

    return {"decode": decode, "prefill": prefill}


def prompts() -> list[list[int]]:
    return [[(i * 31 + j * 7) % SMALL["vocab"] for j in range(16)] for i in range(ROWS)]


def ours_batch(path: str, threads: int) -> dict[str, Callable[[], float]]:
    from alexandra.backends.decode import Generator, Sampling

    generator = Generator(path, slots=ROWS, chunk=ROWS * 16, threads=threads)
    rows = prompts()

    def batch() -> float:
        start = time.perf_counter()
        found = generator.generate(rows, Sampling(STEPS, ignore_end=True))
        seconds = time.perf_counter() - start
        assert all(len(row.tokens) == STEPS for row in found)
        return seconds / (ROWS * STEPS)

    return {"batch": batch}


def transformers_batch(path: str, threads: int) -> dict[str, Callable[[], float]]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from alexandra.backends.decode import Generator, Sampling, load_decoder

    torch.set_num_threads(threads)
    model = load_decoder(path)
    c = model.config
    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab, hidden_size=c.width, intermediate_size=c.hidden, num_hidden_layers=c.layers,
            num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, rms_norm_eps=c.eps,
            max_position_embeddings=c.context, tie_word_embeddings=False, pad_token_id=0, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    peer.load_state_dict(_transformers_names(model))
    ids = torch.tensor(prompts())

    def run() -> Any:
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            return peer.generate(ids, attention_mask=mask, max_new_tokens=STEPS, do_sample=False, use_cache=True)

    greedy = run()[:, 16:].tolist()
    same = [list(row.tokens) for row in Generator(model, slots=8).generate(prompts()[:8], Sampling(STEPS))]
    assert same == greedy[:8], "the two engines continue differently"

    def batch() -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / (ROWS * STEPS)

    return {"batch": batch}


def _transformers_names(model: Any) -> dict[str, Any]:
    """Weights under transformers' names, q and k rotated in halves again."""
    import torch

    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    names |= {"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
    names |= {"ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    outer = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
    state, head = {}, model.config.head_dim
    for name, tensor in model.tensors.items():
        array, parts = tensor.array(), name.split(".")
        if parts[-2] in ("attn_q", "attn_k"):
            array = array.reshape(-1, head // 2, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        key = outer[parts[0]] if len(parts) == 2 else f"model.layers.{parts[1]}.{names[parts[2]]}"
        state[f"{key}.weight"] = torch.from_numpy(np.ascontiguousarray(array))
    return state


ENGINES = {"ours": ours, "llama.cpp": llama, "ours_batch": ours_batch, "transformers": transformers_batch}


def about(engine: str) -> str:
    """What an engine says of its build."""
    if engine == "llama.cpp":
        import llama_cpp

        found = llama_cpp.llama_print_system_info().decode().split(" | ")
        return f"{llama_cpp.__version__}: {', '.join(part for part in found if part.strip())}"
    return engine


def serve(engine: str, path: str, threads: int) -> None:
    """A worker: says "ready", then times whatever each line of its input names."""
    try:
        tasks = ENGINES[engine](path, threads)
    except ImportError as error:
        print(f"missing {error.name}", flush=True)
        return
    for task in tasks.values():
        task()
    print("ready", about(engine), flush=True)
    for line in sys.stdin:
        print(tasks[line.strip()](), flush=True)


class Worker:
    """A process of its own, held to the first cores."""

    def __init__(self, engine: str, path: str, threads: int) -> None:
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--serve", engine, path, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stdin is not None
        self.words = self.process.stdout.readline().strip()
        self.ready = self.words.startswith("ready")

    def time(self, task: str) -> float:
        assert self.process.stdout is not None and self.process.stdin is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def compare(ours_name: str, peer_name: str, path: str, threads: int, tasks: list[str], rounds: int) -> dict[str, Any]:
    """Alternating rounds of both engines; tokens per second."""
    workers = {"ours": Worker(ours_name, path, threads), peer_name: Worker(peer_name, path, threads)}
    seconds: dict[str, dict[str, list[float]]] = {t: {n: [] for n in workers} for t in tasks}
    reading: list[float] = []
    for _ in range(rounds):
        for task in tasks:
            for name, worker in workers.items():
                if worker.ready:
                    seconds[task][name].append(worker.time(task))
        if "decode" in tasks:
            reading.append(workers["ours"].time("read"))
    result: dict[str, Any] = {"peer": workers[peer_name].words.removeprefix("ready ")}
    if reading:
        shares = [read / took for read, took in zip(reading, seconds["decode"]["ours"], strict=True)]
        result["read"] = round(os.path.getsize(path) / min(reading) / 1e9, 1)
        result["share of reading"] = round(statistics.median(shares), 2)
    for task in tasks:
        row: dict[str, Any] = {"n": rounds}
        for name, times in seconds[task].items():
            row[name] = {"tokens_per_second": round(1 / min(times), 1) if times else None}
            if times:
                row[name]["spread"] = round(statistics.median(times) / min(times), 3)
        if seconds[task][peer_name]:
            row["ratio"] = round(min(seconds[task][peer_name]) / min(seconds[task]["ours"]), 3)
        result[task] = row
    for worker in workers.values():
        worker.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--serve", nargs=3, metavar=("ENGINE", "FILE", "THREADS"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", default=["Q4_0", "Q8_0"])
    parser.add_argument("--skip", choices=("float32", "quantised"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve[0], args.serve[1], int(args.serve[2]))
    from alexandra.backends.decode import available_isas
    from alexandra.backends.gguf_export import export_gguf

    report: dict[str, Any] = {"isa": available_isas()[0], "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        if args.skip != "quantised":
            model = decoder(LARGE, True)
            report["parameters"] = sum(tensor.data.size // 4 for tensor in model.tensors.values())
            for kind in args.kinds:
                path = export_gguf(model, Path(folder) / f"{kind}.gguf", kind)
                report[f"{kind} bytes"] = path.stat().st_size
                for threads in args.threads:
                    found = compare("ours", "llama.cpp", str(path), threads, ["decode", "prefill"], args.rounds)
                    report[f"{kind} {threads} threads"] = found
        if args.skip != "float32":
            path = export_gguf(decoder(SMALL, True), Path(folder) / "small.gguf", "F32")
            found = compare("ours_batch", "transformers", str(path), 1, ["batch"], args.rounds)
            report["float32 64 rows x 32 tokens"] = found
    deliver(report, args.json)


if __name__ == "__main__":
    main()
