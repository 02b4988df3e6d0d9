"""A scorer out of a transformers classifier: by folder or hub id, exported to ONNX and INT8, and measured.

The families T5, BERT, RoBERTa, DeBERTa and ALBERT are sequence classifiers of `transformers`; their
own tokenizer goes along as one JSON file. Only safetensors weights are read and no code of a model folder is run. Needs
the extras `torch`, `hf` and `onnx`; what it writes needs neither torch nor transformers to run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alexandra.errors import VerifierError, missing_extra, suggest
from alexandra.rng import derive
from alexandra.verifiers.calibration import fit
from alexandra.verifiers.scorers.folder import Scorer, load, save
from alexandra.verifiers.scorers.recipe import card

FAMILIES = ("t5", "bert", "roberta", "deberta-v2", "albert")
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
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(model), use_safetensors=True, attn_implementation="eager"
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


def _export(network: Any, path: Path) -> None:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.full((2, TRACED_LENGTH), 5, dtype=torch.long)
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
    """Measure a scorer on labelled claims that it was not trained on: calibrate on half, store the card of the rest."""
    scorer = load(path, int8)
    truth = np.asarray(labels, dtype=int)
    if len(truth) != len(texts) or len(truth) < 4:
        raise VerifierError(f"{len(texts)} texts and {len(truth)} labels: give one label a text, and more than three")
    raw = scorer.raw(texts)
    half = derive(0, "verifiers", "scorers").words(len(truth)) % 2 == 0
    calibrator = fit(raw[half], truth[half], "platt")
    return save(replace(scorer, calibrator=calibrator, card=card(calibrator(raw[~half]), truth[~half])))
