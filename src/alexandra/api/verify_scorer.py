"""A scorer out of a transformers classifier: by folder or hub id, fine-tuned, exported to ONNX and INT8, and measured.

The families T5, BERT, RoBERTa, DeBERTa, ALBERT and Longformer are sequence classifiers of `transformers`; their own
tokenizer goes along as one JSON file. Longformer's windows, whose views have no counterpart in ONNX, are
exported as a mask over all pairs: the same numbers, at a cost that grows with the square of the length. Only
safetensors weights are read and no code of a model folder is run. Needs the extras `torch`, `hf` and `onnx`; what it
writes needs neither torch nor transformers to run.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import VerifierError, missing_extra, suggest
from alexandra.rng import derive
from alexandra.train.scorer import FAMILIES, Recipe, Tell, fine_tune, split
from alexandra.verifiers.calibration import fit
from alexandra.verifiers.scorers.folder import Scorer, load, save
from alexandra.verifiers.scorers.recipe import card

TRACED_LENGTH = 16


def export_scorer(
    model: str | Path, out: str | Path, framework: str, *, label: int = 1, max_length: int = 256, int8: bool = True
) -> Scorer:
    """Write the scorer's folder; `label` is the class that means that a claim is right."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("exporting a scorer", "hf") from None
    config = transformers.AutoConfig.from_pretrained(str(model))
    if config.model_type not in FAMILIES:
        raise VerifierError(f"{str(model)!r} is a {config.model_type!r}", hint=suggest(config.model_type, FAMILIES))
    chosen = {} if config.model_type == "longformer" else {"attn_implementation": "eager"}
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(model), use_safetensors=True, **chosen
    ).eval()
    if not 0 <= label < network.config.num_labels:
        raise VerifierError(f"label={label} of {network.config.num_labels} classes")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model), use_fast=True)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    padding = {"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}
    (folder / "padding.json").write_text(json.dumps(padding))
    _export(network, folder / "model.onnx")
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(folder / "model.onnx", folder / "model.int8.onnx", weight_type=QuantType.QInt8)
    return save(Scorer(folder, framework, config.model_type, "tokenizer", {}, None, label, max_length))


def _windows_as_mask(network: Any) -> None:
    """Longformer's attention (Beltagy et al. 2020), each layer in place: near or global keys, a global row sees all."""
    import torch

    class Masked(torch.nn.Module):
        def __init__(self, own: Any) -> None:
            super().__init__()
            self.own = own

        def forward(
            self, hidden_states: Any, attention_mask: Any = None, is_index_masked: Any = None,
            is_index_global_attn: Any = None, is_global_attn: Any = None, output_attentions: bool = False,
        ) -> tuple[Any]:  # fmt: skip
            own, x = self.own, hidden_states
            places = torch.arange(x.shape[1])
            near = (places[:, None] - places[None, :]).abs() <= own.one_sided_attn_window_size
            heard = ~is_index_masked[:, None, None, :]
            seen = (near | is_index_global_attn[:, None, None, :]) & heard
            out = self.attend(own.query(x), own.key(x), own.value(x), seen)
            whole = self.attend(own.query_global(x), own.key_global(x), own.value_global(x), heard)
            out = torch.where(is_index_global_attn[:, :, None], whole, out)
            return (out.masked_fill(is_index_masked[:, :, None], 0.0),)

        def attend(self, query: Any, key: Any, value: Any, seen: Any) -> Any:
            q, k, v = (one.unflatten(-1, (self.own.num_heads, -1)).transpose(1, 2) for one in (query, key, value))
            scores = (q / self.own.head_dim**0.5) @ k.transpose(2, 3)
            shares = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
            return (shares @ v).transpose(1, 2).flatten(2)

    for layer in network.longformer.encoder.layer:
        layer.attention.self = Masked(layer.attention.self)


def _export(network: Any, path: Path) -> None:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits

    length = TRACED_LENGTH
    if network.config.model_type == "longformer":
        _windows_as_mask(network)
        length = 2 * max(network.config.attention_window)  # a whole number of windows, so that no padding is traced
    ids = torch.full((2, length), 5, dtype=torch.long)
    end = getattr(network.config, "eos_token_id", None)
    if network.config.model_type == "t5" and end is not None:
        ids[:, -1] = end
    mask = torch.ones_like(ids)
    free = {0: "rows", 1: "length"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(), (ids, mask), str(path), input_names=["input_ids", "attention_mask"],
            output_names=["logits"], dynamic_axes={"input_ids": free, "attention_mask": free}, opset_version=17,
            dynamo=False,
        )  # fmt: skip


def measure(path: str | Path, texts: Sequence[str], labels: Sequence[bool], *, int8: bool = False) -> Scorer:
    """Measure a scorer on labelled claims that it was not trained on: calibrate on half, store the card of the rest.

    The card of an INT8 model stands beside the other one's, under "int8", and reads by the same calibrator.
    """
    scorer = load(path, int8)
    truth = np.asarray(labels, dtype=int)
    if len(truth) != len(texts) or len(truth) < 4:
        raise VerifierError(f"{len(texts)} texts and {len(truth)} labels: give one label a text, and more than three")
    raw = scorer.raw(texts)
    half = derive(0, "verifiers", "scorers").words(len(truth)) % 2 == 0
    calibrator = (scorer.calibrator if int8 else None) or fit(raw[half], truth[half], "platt")
    found = card(calibrator(raw[~half]), truth[~half])
    return save(replace(scorer, calibrator=calibrator, card={**scorer.card, "int8": found} if int8 else found))


@dataclass(frozen=True)
class Job:
    """What a scorer is made of: `model`, a hub id or a folder; `out` is the scorer's folder, `tell` hears of steps."""

    framework: str
    model: str | Path
    out: str | Path
    recipe: Recipe = field(default_factory=Recipe)
    tell: Tell | None = None


def train_scorer(
    framework: str, model: str | Path, texts: Sequence[str], labels: Sequence[int], out: str | Path,
    recipe: Recipe | None = None,
) -> Scorer:
    """Fine-tune `model` (a hub id or folder) as a framework's scorer, export it, and store what held-out claims show.

    Texts are "prompt [SEP] answer" or one text, label 1 is right. A tenth of the prompts calibrates, a fifth measures;
    the card holds n, precision, recall and the rest for float32, and for INT8 under "int8".
    """  # fmt: skip
    return trained(Job(framework, model, out, recipe or Recipe()), texts, labels)


def trained(job: Job, texts: Sequence[str], labels: Sequence[int]) -> Scorer:
    """`train_scorer` of a job."""
    truth, parts = np.asarray(labels, dtype=int), split(texts)
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tune(job.model, folder, texts, truth.tolist(), job.recipe, job.tell)
        export_scorer(folder, job.out, job.framework, max_length=job.recipe.max_length)
    exact, small = load(job.out), load(job.out, int8=True)
    held, asked = [texts[i] for i in parts.hold], [texts[i] for i in parts.test]
    calibrator = fit(exact.raw(held), truth[parts.hold], "platt")
    made: dict[str, Any] = card(calibrator(exact.raw(asked)), truth[parts.test])
    made["int8"] = card(calibrator(small.raw(asked)), truth[parts.test])
    made |= {"fitted_on": len(parts.fit), "held_losses": [round(loss, 4) for loss in tuned.losses]}
    return save(replace(exact, calibrator=calibrator, card=made))
