"""What earlier corpora held, on disk: digests, signatures and shingles, one folder a generation, published whole.

A new corpus is compared with every generation that was made with the same settings; adding a corpus never rewrites an
earlier generation.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from alexandra import storage
from alexandra.data.dedup.shingles import MinHash, Signatures
from alexandra.errors import DataError

SCHEMA = "dedup-index-1"
_ARRAYS = ("digests", "signatures", "offsets", "shingles")


def array_bytes(array: np.ndarray) -> bytes:
    """The .npy file of an array."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def add(folder: Path, name: str, digests: np.ndarray, signed: Signatures, settings: MinHash) -> None:
    """Publish a generation; one of that name must not exist yet."""
    if (folder / name).exists():
        raise DataError(f"the index {str(folder)!r} already holds {name!r}", hint="give the run another name")
    arrays = {
        "digests": digests,
        "signatures": signed.signatures,
        "offsets": signed.offsets,
        "shingles": signed.shingles,
    }
    files = {f"{key}.npy": array_bytes(value) for key, value in arrays.items()}
    about = {"schema": SCHEMA, "settings": settings.model_dump(), "records": len(digests),
             "sha256": {key: storage.content_hash(value) for key, value in files.items()}}  # fmt: skip
    storage.publish_folder(folder / name, {**files, "about.json": storage.json_bytes(about)})


def generations(folder: Path) -> list[str]:
    """Names in the order of their names."""
    return sorted(path.parent.name for path in folder.glob("*/about.json") if not path.parent.name.startswith("."))


def load(folder: Path, settings: MinHash, leave_out: str = "") -> tuple[np.ndarray, Signatures]:
    """Digests and signatures of all generations in one; empty without any."""
    digests = [np.empty((0, 2), np.uint64)]
    signatures = [np.empty((0, settings.permutations), np.uint32)]
    offsets, shingles, end = [np.zeros(1, np.int64)], [np.empty(0, np.uint32)], 0
    for name in generations(folder):
        if name == leave_out:
            continue
        about = storage.read_json(folder / name / "about.json")
        made = {**about["settings"], "threshold": settings.threshold}
        if about.get("schema") != SCHEMA or made != settings.model_dump():
            raise DataError(
                f"{str(folder / name)!r} was made with other MinHash settings: {about['settings']}",
                hint="use those settings, or another index",
            )
        arrays = {key: np.load(folder / name / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in _ARRAYS}
        digests.append(arrays["digests"])
        signatures.append(arrays["signatures"])
        offsets.append(arrays["offsets"][1:] + end)
        shingles.append(arrays["shingles"])
        end += int(arrays["offsets"][-1])
    signed = Signatures(np.concatenate(signatures), np.concatenate(offsets), np.concatenate(shingles))
    return np.concatenate(digests), signed


def joined(first: Signatures, second: Signatures) -> Signatures:
    """The records of `first`, then those of `second`."""
    return Signatures(
        np.concatenate([first.signatures, second.signatures]),
        np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        np.concatenate([first.shingles, second.shingles]),
    )
