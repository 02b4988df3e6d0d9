"""Generation: against torch, against itself in every grouping, and its refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.backends.decoders import decoder, tokens

from alexandra.backends.decode import (
    Completion,
    DecoderModel,
    Generator,
    Sampling,
    available_isas,
    generate,
    load_decoder,
)
from alexandra.backends.gguf_export import converted, export_gguf
from alexandra.backends.quant import stored
from alexandra.errors import BackendError, WeightsError
from alexandra.rng import derive

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


def of_kind(kind: str, architecture: str = "llama") -> DecoderModel:
    return converted(decoder(architecture), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_at_a_time_gives_the_bits_of_the_whole_text(kind: str) -> None:
    text = tokens(60)
    whole = Generator(of_kind(kind), chunk=128).logits(text)
    assert np.isfinite(whole).all() and whole.std() > 0.1
    for chunk in (1, 7, 16):
        assert Generator(of_kind(kind), chunk=chunk).logits(text).tobytes() == whole.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree(kind: str) -> None:
    text = tokens(40)
    results = {isa: Generator(of_kind(kind), isa=isa).logits(text) for isa in available_isas()}
    base = results.pop("portable")
    fused = list(results.values())
    assert all(logits.tobytes() == fused[0].tobytes() for logits in fused)
    for logits in fused[:1]:  # without fused multiply-adds an activation may round the other way, seldom
        error = np.abs(logits - base) / np.maximum(1, np.abs(base))
        assert error.max() <= (1e-5 if kind in ("F32", "F16") else 0.5)
        assert np.quantile(error, 0.75) <= (1e-3 if kind == "Q8_0" else 1e-5)


@pytest.mark.parametrize(("kind", "bound"), [("F16", 1e-6), ("BF16", 0.05), ("Q8_0", 0.05), ("Q4_0", 0.05)])
def test_products_are_those_of_the_weights_as_floats(kind: str, bound: float) -> None:
    model, text = of_kind(kind), tokens(40)
    plain = DecoderModel(model.config, {name: stored(t.array(), name) for name, t in model.tensors.items()})
    wanted = Generator(plain).logits(text)
    error = Generator(model).logits(text) - wanted
    assert np.sqrt((error**2).mean()) <= bound * wanted.std()  # activations are rounded, weights are not


@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0", "Q4_0"])
def test_threads_change_no_bit(kind: str) -> None:
    text = tokens(50)
    one = Generator(of_kind(kind), threads=1).logits(text)
    for threads in (2, 3):
        assert Generator(of_kind(kind), threads=threads).logits(text).tobytes() == one.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_left_in_the_file_give_the_same_bits(kind: str) -> None:
    text = tokens(20)
    lean = Generator(of_kind(kind), packed=False)
    packed = Generator(of_kind(kind))
    assert lean.logits(text).tobytes() == packed.logits(text).tobytes()
    assert lean.memory["packed"] < packed.memory["packed"] / 8


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_a_rows_text_does_not_depend_on_its_neighbours(kind: str) -> None:
    model, prompts = of_kind(kind), [tokens(3 + 5 * i, seed=i) for i in range(9)]
    sampling = Sampling(17, temperature=1.1, top_k=40, top_p=0.95, repetition_penalty=1.2, seed=5, logprobs=2)
    batch = Generator(model, slots=4, chunk=16).generate(prompts, sampling)
    wide = Generator(model, slots=9, chunk=64).generate(prompts, sampling)
    single = Generator(model, slots=1)
    alone = [single.generate([[0]] * i + [prompt], sampling)[i] for i, prompt in enumerate(prompts[:4])]
    assert batch == wide and batch[:4] == alone
    assert len({result.tokens for result in batch}) == len(batch)


def test_requests_that_begin_alike_share_keys_and_change_no_bit() -> None:
    """Whole prompts, beginnings, prompts inside others; leaders that end early, and slots that are taken again."""
    model, base = of_kind("F32"), tokens(40, seed=1)
    mixed = [*base[:25], *tokens(9, seed=2)]
    prompts = [base, base, base[:30], mixed, base[:1], [*base, 1, 2], tokens(12), base[:20], base]
    sampling = Sampling(6, temperature=1.0, seed=5, logprobs=1)
    single = Generator(model, slots=1)
    alone = [single.generate([[0]] * i + [prompt], sampling)[i] for i, prompt in enumerate(prompts)]
    for slots, chunk in ((2, 4), (3, 16), (9, 16), (9, 128)):
        assert Generator(model, slots=slots, chunk=chunk).generate(prompts, sampling) == alone
    once = [single.generate([[0]] * i + [base], Sampling(1, temperature=1.0))[i] for i in range(12)]
    assert Generator(model, slots=5, chunk=16).generate([base] * 12, Sampling(1, temperature=1.0)) == once
    pair = Generator(model, slots=2, chunk=4)
    pair.generate([base, base], Sampling(1))
    assert pair._sessions[0].steps == 11  # ten for the prompt, one for the other's last token


def test_threads_take_many_rows_of_a_small_model_apart_and_change_no_bit() -> None:
    model, prompts = of_kind("F32"), [tokens(3 + i % 7, seed=i) for i in range(40)]
    sampling = Sampling(12, temperature=1.0, seed=5, logprobs=1)
    one, two = Generator(model, slots=32), Generator(model, slots=32, threads=2)
    left: list[int] = []
    assert one.generate(prompts, sampling) == two.generate(prompts, sampling, progress=left.append)
    assert sorted(left, reverse=True) == left and left[-1] == 0 < left[0]
    assert one.logits(prompts[0]).tobytes() == two.logits(prompts[0]).tobytes()
    assert two.memory["packed"] == 2 * one.memory["packed"] and two.memory["mapped"] == one.memory["mapped"]
    assert one.memory["cache"] == two.memory["cache"]
    with pytest.raises(BackendError, match="prompt 1"):
        two.generate([prompts[0], [10**6]], sampling)
    assert one.generate(prompts[:3], sampling) == two.generate(prompts[:3], sampling)


def test_seeds_and_rows_have_streams_of_their_own() -> None:
    generator = Generator(of_kind("F32"), slots=8)
    sampling = Sampling(max_tokens=20, temperature=1.5)
    rows = generator.generate([[1, 2]] * 8, sampling)
    assert len({row.tokens for row in rows}) == 8
    assert rows == generator.generate([[1, 2]] * 8, sampling)
    assert rows != generator.generate([[1, 2]] * 8, Sampling(max_tokens=20, temperature=1.5, seed=1))


def test_draws_follow_the_distribution() -> None:
    generator = Generator(of_kind("F32"), slots=64)
    logits = generator.logits([3, 4])[-1].astype(np.float64)
    p = np.exp((logits - logits.max()) / 0.7)
    p /= p.sum()
    rows = generator.generate([[3, 4]] * 4000, Sampling(max_tokens=1, temperature=0.7))
    counts = np.bincount([row.tokens[0] for row in rows], minlength=len(p))
    expected = p * 4000
    large = expected > 20
    chi = ((counts - expected)[large] ** 2 / expected[large]).sum()
    assert large.sum() > 5 and chi < 2 * large.sum() + 20


def test_cuts_keep_what_they_say() -> None:
    generator = Generator(of_kind("F32"), slots=64)
    logits = generator.logits([3, 4])[-1].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    top = generator.generate([[3, 4]] * 500, Sampling(max_tokens=1, temperature=1.0, top_k=3))
    assert {row.tokens[0] for row in top} == {int(i) for i in order[:3]}
    nucleus = {int(i) for i in order[: int(np.searchsorted(np.cumsum(p[order]), 0.6)) + 1]}
    rows = generator.generate([[3, 4]] * 2000, Sampling(max_tokens=1, temperature=1.0, top_p=0.6))
    assert {row.tokens[0] for row in rows} == nucleus


def test_greedy_takes_the_best_and_logprobs_are_the_models_own() -> None:
    generator = Generator(of_kind("F32"))
    result = generator.generate([tokens(5)], Sampling(max_tokens=8, logprobs=3))[0]
    text = tokens(5)
    for token, logprob, others in zip(result.tokens, result.logprobs, result.alternatives, strict=True):
        logits = generator.logits(text)[-1].astype(np.float64)
        exact = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert token == int(logits.argmax()) == others[0][0]
        assert logprob == pytest.approx(exact[token], abs=1e-5)
        assert [t for t, _ in others] == [int(i) for i in np.argsort(-exact, kind="stable")[:3]]
        text.append(token)


def test_a_penalty_discourages_what_was_seen() -> None:
    generator = Generator(of_kind("F32"))
    plain = generator.generate([tokens(5)], Sampling(max_tokens=60))[0].tokens
    strict = generator.generate([tokens(5)], Sampling(max_tokens=60, repetition_penalty=5.0))[0].tokens
    assert len(set(strict)) > len(set(plain))


def test_end_tokens_end_a_row_and_are_left_out() -> None:
    free = Generator(of_kind("F32")).generate([tokens(5)], Sampling(max_tokens=12))[0]
    end = free.tokens[6]
    first = free.tokens.index(end)
    model = converted(decoder("llama", end_tokens=(end,)), "F32")
    cut = Generator(model).generate([tokens(5)], Sampling(max_tokens=12))[0]
    assert (cut.tokens, cut.finish) == (free.tokens[:first], "end")
    assert Generator(model).generate([tokens(5)], Sampling(max_tokens=12, ignore_end=True))[0] == free


def test_an_end_token_can_be_kept_with_its_probability() -> None:
    free = Generator(of_kind("F32")).generate([tokens(5)], Sampling(max_tokens=12))[0]
    end = free.tokens[6]
    number = free.tokens.index(end) + 1
    model = converted(decoder("llama", end_tokens=(end,)), "F32")
    kept = Generator(model).generate([tokens(5)], Sampling(max_tokens=12, keep_end=True))[0]
    assert (kept.tokens, kept.logprobs, kept.finish) == (free.tokens[:number], free.logprobs[:number], "end")


def test_streams_that_are_given_decide_the_draws_word_by_word() -> None:
    generator, sampling = Generator(of_kind("F32"), slots=3), Sampling(9, temperature=1.5)
    streams = [derive(7, "rows").at(lane) for lane in range(3)]
    rows = generator.generate([tokens(5)] * 3, sampling, streams=streams)
    assert len({row.tokens for row in rows}) == 3
    assert generator.generate([tokens(5)], sampling, streams=streams[2:]) == rows[2:]
    for row, stream in zip(rows, streams, strict=True):
        text = tokens(5)
        for token, uniform in zip(row.tokens, stream.uniform(9), strict=True):
            p = np.exp(generator.logits(text)[-1].astype(np.float64) / 1.5)
            edges = np.concatenate(([0.0], np.cumsum(p) / p.sum()))
            assert edges[token] - 1e-6 <= uniform <= edges[token + 1] + 1e-6
            text = [*text, token]


@pytest.mark.parametrize("packed", [True, False])
def test_weights_that_changed_are_read_again(packed: bool) -> None:
    model = of_kind("F32")
    arrays = {name: tensor.array() for name, tensor in model.tensors.items()}
    own = replace(model, tensors={name: stored(array, name) for name, array in arrays.items()})
    generator = Generator(own, packed=packed)
    before = generator.logits(tokens(9))
    for number, array in enumerate(arrays.values()):
        array += 0.1 * derive(number, "change").normal(array.size).reshape(array.shape).astype(np.float32)
    generator.refresh()
    after = generator.logits(tokens(9))
    np.testing.assert_array_equal(after, Generator(own).logits(tokens(9)))
    assert np.abs(after - before).max() > 0.1
    generator._sessions[0].submit(np.array([1], np.int32), (0.0, 1.0, 1.0), (0, 5, 0), (0, 0, 0), [], False, [])
    generator._sessions[0].run(1)
    with pytest.raises(BackendError, match="cannot change while a text"):
        generator.refresh()


def test_a_stop_text_cuts_even_inside_tokens(tmp_path: Path) -> None:
    model = load_decoder(export_gguf(decoder("llama", vocab=300), tmp_path / "m.gguf"))
    free = generate(model, [[70, 80]], max_tokens=60, temperature=2.0)[0]
    assert free.text is not None
    at = next(i for i in range(4, len(free.text)) if free.text[i : i + 3].isascii())
    stop = free.text[at : at + 3]
    cut = generate(model, [[70, 80]], max_tokens=60, temperature=2.0, stop=(stop, "never seen"))[0]
    assert cut.finish == "stop" and cut.text == free.text[: free.text.index(stop)]


def test_a_window_hides_what_is_further_back() -> None:
    long, short = tokens(60), tokens(60)
    short[0] = (short[0] + 1) % 96
    wide = converted(decoder("llama"), "F32")
    near = converted(decoder("llama", window=8), "F32")
    assert not np.array_equal(Generator(wide).logits(long)[-1], Generator(wide).logits(short)[-1])
    assert np.array_equal(Generator(near).logits(long)[-1], Generator(near).logits(short)[-1])  # 2 layers reach 14 back


def test_prompts_that_cannot_fit_are_refused_with_their_numbers() -> None:
    generator = Generator(of_kind("F32"), context=32)
    with pytest.raises(BackendError, match="prompt 1: a prompt of 30 and 8 new tokens do not fit the context of 32"):
        generator.generate([[1], tokens(30)], Sampling(max_tokens=8))
    with pytest.raises(BackendError, match="prompt 0: a prompt has no token"):
        generator.generate([[]])
    with pytest.raises(BackendError, match="token 96 is not below the vocabulary of 96"):
        generator.generate([[96]], Sampling(max_tokens=2))
    with pytest.raises(BackendError, match="0 < top_p <= 1"):
        generator.generate([[1]], Sampling(max_tokens=2, top_p=0.0))
    with pytest.raises(BackendError, match="has no tokenizer"):
        generator.generate(["text"])
    assert generator.generate([[1]], Sampling(max_tokens=2))[0].finish == "length"  # and it still works


def test_logits_that_are_no_numbers_are_an_error_not_a_token() -> None:
    model = decoder("llama")
    model.tensors["output_norm.weight"].data.view(np.float32)[0] = np.nan
    for kind in ("F32", "Q8_0"):
        broken = model if kind == "F32" else converted(model, kind)
        with pytest.raises(BackendError, match="are not numbers"):
            Generator(broken).generate([[1, 2]])


def test_missing_and_misshapen_tensors_are_named() -> None:
    model = decoder("llama")
    lacking = DecoderModel(model.config, {k: t for k, t in model.tensors.items() if k != "blk.1.ffn_up.weight"})
    with pytest.raises(WeightsError, match=r"(?s)no tensor 'blk.1.ffn_up.weight'.*Did you mean"):
        Generator(lacking)
    twisted = {**model.tensors, "blk.0.attn_q.weight": model.tensors["blk.0.attn_k.weight"]}
    with pytest.raises(WeightsError, match=r"'blk.0.attn_q.weight' has shape \(32, 64\), the network needs \(64, 64\)"):
        Generator(DecoderModel(model.config, twisted))


def test_memory_is_known_before_the_first_token() -> None:
    generator = Generator(of_kind("Q4_0"), slots=3, context=64)
    before = generator.memory
    heads, dim, layers = 2, 16, 2
    assert before["cache"] == 4 * 3 * layers * 2 * heads * dim * 64
    generator.generate([tokens(10)] * 7, Sampling(max_tokens=20))
    assert generator.memory == before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_holds_the_whole_model(architecture: str, tmp_path: Path) -> None:
    model = converted(decoder(architecture), "F32")
    path = export_gguf(model, tmp_path / "m.gguf")
    again = load_decoder(path)
    assert again.config == model.config
    assert Generator(again).logits(tokens(30)).tobytes() == Generator(model).logits(tokens(30)).tobytes()


def test_completions_compare_by_value() -> None:
    assert Completion((1,), None, "end", (0.5,)) == Completion((1,), None, "end", (0.5,))
