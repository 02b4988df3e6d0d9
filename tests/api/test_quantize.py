"""What quantisation costs is measured and said, and limits that are missed are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.backends.decoders import decoder, tokens, trained
from typer.testing import CliRunner

from alexandra.api.quantize import LIMITS, Quality, _missed, quantize_model
from alexandra.backends.decode import Generator, load_decoder
from alexandra.backends.gguf_export import export_gguf
from alexandra.cli import app
from alexandra.errors import UsageError


def test_the_report_is_what_a_hand_computes(tmp_path: Path) -> None:
    model, text = decoder("llama"), tokens(65)
    report = quantize_model(model, text, kinds=("Q8_0", "Q4_0"), window=32, out=tmp_path, peer=False)
    assert report.tokens == 62 and [row.kind for row in report.rows] == ["Q8_0", "Q4_0"]
    exact = [Generator(model).logits(text[i : i + 32]).astype(np.float64) for i in (0, 32)]
    for row in report.rows:
        assert Path(row.path).is_file()
        made = [Generator(load_decoder(row.path)).logits(text[i : i + 32]).astype(np.float64) for i in (0, 32)]
        p, q = (np.exp(np.concatenate(x)) for x in (exact, made))
        p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
        assert row.kl == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), abs=1e-6)
        assert row.top1 == np.mean(p.argmax(axis=1) == q.argmax(axis=1))
        following = np.concatenate([text[1:32], text[33:64]])
        at = np.r_[0:31, 32:63]
        assert row.loss == pytest.approx(-np.log(q[at, following]).mean(), abs=1e-6)
        assert row.perplexity_ratio == pytest.approx(np.exp(row.loss - report.float_loss))
    q8, q4 = report.rows
    assert q4.bytes < q8.bytes < report.float_bytes / 3 and 0 < q8.kl < q4.kl and q8.cosine > q4.cosine


def test_missed_limits_are_named_with_both_numbers() -> None:
    bad = Quality("Q8_0", 1, 10, 2.0, 0.9, 0.5, 1.5, 0.5, peer_loss=1.9)
    words = " ".join(_missed(bad))
    for part in ("cosine 0.90000 is below 0.999", "KL 0.50000 is above 0.01", "1.5000 times", "0.5000 is below 0.99"):
        assert part in words
    assert "above llama.cpp's 1.90000 by more than 0.5 %" in words
    assert not _missed(Quality("Q8_0", 1, 10, 1.9, 0.9999, 0.001, 1.001, 0.995, peer_loss=1.9))
    assert set(LIMITS) >= {"Q8_0", "Q4_0"}


def test_the_command_exits_with_1_when_a_limit_is_missed(tmp_path: Path) -> None:
    path = export_gguf(decoder("llama", vocab=300), tmp_path / "m.gguf")
    (tmp_path / "t.txt").write_text("To be, or not to be, that is the question: " * 4)
    command = ["quantize", str(path), "--text", str(tmp_path / "t.txt"), "--kind", "Q4_0", "--no-peer", "--json"]
    made = CliRunner().invoke(app, command)
    report = json.loads(made.stdout)
    assert made.exit_code == (0 if report["kept"] else 1)
    assert report["kept"] == (not report["rows"][0]["missed"])


def test_too_little_text_and_unknown_types_are_refused() -> None:
    with pytest.raises(UsageError, match="1 tokens are too few"):
        quantize_model(decoder("llama"), [1])
    with pytest.raises(UsageError, match=r"(?s)'Q9_0' is not known.*Q8_0"):
        quantize_model(decoder("llama"), tokens(40), kinds=("Q9_0",))
    with pytest.raises(UsageError, match="has no tokenizer"):
        quantize_model(decoder("llama"), "text")


@pytest.mark.slow
def test_a_model_trained_here_keeps_the_limits(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model, held_out = trained(real_data)
    report = quantize_model(model, held_out, window=64, out=tmp_path)
    assert report.float_perplexity < 12  # it has learnt: 65 characters, 28 by their frequencies alone
    assert report.kept, report
    assert all(row.peer_top1 is None or row.peer_top1 >= 0.99 for row in report.rows)
