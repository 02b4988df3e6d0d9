"""One GRPO step and one step of pre-training of a 0.75 M-parameter Llama, beside TRL and a plain PyTorch loop.

    python benchmarks/grpo.py [--rounds 9] [--threads 1] [--lengths 8 64] [--json out.json] [--profile]

The Llama: 4 layers, width 128, hidden 288, vocabulary 256. GRPO: 8 prompts of 8 tokens, 8 answers each (64
completions) of at most 8 and 64 tokens, a reward function of one line, no KL, AdamW. TRL's trainer runs in this
process; after every four of its steps four of ours are taken, so that both meet the same machine, and each its own
threads. Times are of the whole step: sampling, rewards, update. `cpu` is process time (all threads), `wall` the clock;
`ratio` is theirs over ours, of the medians and of the minima. Pre-training: 16 rows of 128 tokens, against
transformers' model with fused AdamW in a loop. Memory is the peak of a process that does only the one, less what
importing took. TRL (pip install trl==1.16.0) may be absent.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from delivery import deliver

NETWORK = Path(__file__).resolve().parents[1] / "examples/networks/llama3.nl"
SIZES = {"vocab": 256, "width": 128, "layers": 4, "heads": 4, "kv_heads": 4, "hidden": 288}
PROMPTS, GROUP, PROMPT, ROWS, LENGTH = 8, 8, 8, 16, 128
TURN = 4  # steps of one before the other has its turn
Clock = tuple[float, float]


def clock() -> Clock:
    return time.perf_counter(), time.process_time()


def since(start: Clock) -> Clock:
    now = clock()
    return now[0] - start[0], now[1] - start[1]


def graph() -> Any:
    from alexandra.lang.nureon import compile_network

    return compile_network(NETWORK, constants=SIZES)


def texts(count: int) -> list[str]:
    """Prompts of PROMPT characters."""
    from alexandra.rng import derive

    letters = "abcdefghijklmnop"
    return ["".join(letters[i] for i in derive(0, "prompt", n).below(16, PROMPT)) for n in range(count)]


def reward(completions: list[str], **_: Any) -> list[float]:
    """The share of a's; every group differs, so that every step learns."""
    return [text.count("a") / (1 + len(text)) + 1e-3 * len(set(text)) for text in completions]


def characters() -> str:
    return "".join(chr(code) for code in range(97, 97 + 26)) + "".join(chr(0x100 + i) for i in range(227))


def our_grpo(length: int, threads: int) -> Callable[[int], dict[str, float]]:
    from alexandra.train.lm.build import Given, build
    from alexandra.train.lm.folder import ModelFolder
    from alexandra.train.lm.recipe import Recipe
    from alexandra.train.lm.tokenizer import CharTokenizer

    settings: dict[str, Any] = {
        "stage": "grpo",
        "model": {"backend": "native", "threads": threads},
        "data": {"held_out": 0.0},
        "train": {"steps": 1000, "lr": 1e-4},
        "rollout": {"prompts": PROMPTS, "group": GROUP, "max_tokens": length},
    }
    data = [{"prompt": text} for text in texts(256)]
    given = Given(ModelFolder(graph(), tokenizer=CharTokenizer(characters())), data, rewards=(reward,))
    return build(Recipe.model_validate(settings), given).stage.step


def our_pretraining(threads: int) -> Callable[[int], dict[str, float]]:
    from alexandra.backends.bind import bind
    from alexandra.train.lm.likelihood import LikelihoodSettings, Pretraining
    from alexandra.train.lm.policy import NetworkPolicy

    policy = NetworkPolicy(bind(graph(), "native", threads=threads))
    return Pretraining(policy, corpus(), LikelihoodSettings(LENGTH, ROWS)).step


def corpus() -> np.ndarray:
    from alexandra.rng import derive

    return derive(0, "corpus").below(256, 100_000)


def their_model() -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    from alexandra.backends import huggingface
    from alexandra.ir.weights import initialise

    made = huggingface.describe(graph(), initialise(graph(), 0))
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**dict(made.config)))


def their_pretraining() -> Callable[[int], float]:
    import torch
    import torch.nn.functional as F

    model, text = their_model().train(), torch.tensor(corpus())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(number: int) -> float:
        starts = np.random.default_rng(number).integers(0, len(text) - LENGTH - 1, ROWS)
        rows = torch.stack([text[at : at + LENGTH + 1] for at in starts])
        optimizer.zero_grad(set_to_none=True)
        logits = model(rows[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def trl_grpo(length: int, steps: int, after: Callable[[int, Clock], None]) -> None:
    """Train `steps` steps; `after` hears how long each took."""
    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    words = {token: number for number, token in enumerate(["<pad>", "<eos>", "<unk>", *characters()])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")

    class Timer(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = clock()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            after(state.global_step, since(self.start))

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=length,
            max_steps=steps,
            learning_rate=1e-4,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
        )
        data = Dataset.from_list([{"prompt": text} for text in texts(256)])
        trainer = GRPOTrainer(
            their_model(), reward, config, train_dataset=data, processing_class=tokenizer, callbacks=[Timer()]
        )
        trainer.train()


def summary(times: list[Clock]) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(times)}
    for number, name in enumerate(("wall", "cpu")):
        values = [one[number] for one in times]
        found[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return found


def compared(ours: list[Clock], theirs: list[Clock], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"ours": summary(ours)}
    if theirs:
        other = found[name] = summary(theirs)
        for kind in ("wall", "cpu"):
            for how in ("median", "min"):
                found[f"ratio_{kind}_{how}"] = other[kind][how] / found["ours"][kind][how]
    return found


def grpo_section(length: int, args: argparse.Namespace) -> dict[str, Any]:
    step, ours, theirs = our_grpo(length, args.threads), list[Clock](), list[Clock]()

    def both(number: int, took: Clock) -> None:
        if number > TURN:  # the first turn plans and warms up
            theirs.append(took)
        if number % TURN:
            return
        for mine in range(number - TURN, number):
            start = clock()
            step(mine)
            if number > TURN:
                ours.append(since(start))

    turns = 1 + -(-args.rounds // TURN)
    if find_spec("trl") is not None:
        trl_grpo(length, TURN * turns, both)
    else:
        for number in range(1, TURN * turns + 1):
            both(number, (0.0, 0.0))
        theirs.clear()
    return compared(ours, theirs, "trl")


def pretraining_section(args: argparse.Namespace) -> dict[str, Any]:
    first, second = our_pretraining(args.threads), their_pretraining()
    ours, theirs = list[Clock](), list[Clock]()
    for turn in range(1 + -(-3 * args.rounds // TURN)):
        for step, times in ((first, ours), (second, theirs)):
            for number in range(TURN * turn, TURN * (turn + 1)):
                start = clock()
                step(number)
                if turn:
                    times.append(since(start))
    found = compared(ours, theirs, "pytorch")
    for name in ("ours", "pytorch"):
        found[name]["tokens_per_second"] = ROWS * LENGTH / found[name]["wall"]["median"]
    return found


def peak(what: str, length: int, threads: int) -> int:
    """Bytes at the peak of a process of its own that does `what` alone, above what it had before the first step."""
    command = [sys.executable, __file__, "--memory-of", what, "--lengths", str(length), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def memory_of(what: str, length: int, threads: int) -> int:
    import_only = {"ours": lambda: our_grpo, "trl": lambda: __import__("trl").GRPOTrainer}[what]
    import_only()
    if what == "ours":
        import alexandra.train.lm.build  # noqa: F401
    before = high_water()
    if what == "ours":
        step = our_grpo(length, threads)
        for number in range(4):
            step(number)
    else:
        trl_grpo(length, 4, lambda number, took: None)
    return high_water() - before


def high_water() -> int:
    """Bytes of memory at the peak of this program; getrusage would count what its parent had before."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true", help="where our step spends its time, and nothing else")
    parser.add_argument("--memory-of", choices=("ours", "trl"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    if args.profile:
        return profile(args)
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(args.threads)
    if args.memory_of:
        print(memory_of(args.memory_of, args.lengths[0], args.threads))
        return 0
    found: dict[str, Any] = {"load": os.getloadavg(), "threads": args.threads, "sizes": SIZES}
    for length in args.lengths:
        found[f"grpo_{PROMPTS * GROUP}x{length}"] = section = grpo_section(length, args)
        section["peak_bytes"] = {name: peak(name, length, args.threads) for name in section if name in ("ours", "trl")}
    found["pretraining"] = pretraining_section(args)
    deliver(found, args.json)
    return 0


def profile(args: argparse.Namespace) -> int:
    for length in args.lengths:
        step = our_grpo(length, args.threads)
        step(0), step(1)
        profiler = cProfile.Profile(time.process_time)
        profiler.enable()
        for number in range(args.rounds):
            step(2 + number)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(14)
    return 0


if __name__ == "__main__":
    sys.exit(main())
