"""The recipe of the brain: the seed's train_config.toml, section by section, and what its authors left open.

Every key of the seed's file is read under its own name; further keys have defaults, so that the seed's file is a recipe
as it stands. Unknown keys are errors with a suggestion.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from alexandra.config import Config
from alexandra.storage import content_hash

SHORTEST = 64  # positions of a short row
SECTIONS = ("training", "curriculum")  # a recipe that has these is the brain's


class Training(Config):
    """`batch_size` counts documents of `document_tokens` tokens. `epochs` in all (0: epochs_per_level for each level);
    an epoch is `updates_per_epoch` updates (0: ten thousand documents, as the seed counts). `patience` epochs without a
    better accuracy end a level early."""

    batch_size: int = Field(default=64, ge=1)
    epochs_per_level: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    patience: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=2, ge=1)
    epochs: int = Field(default=0, ge=0)
    updates_per_epoch: int = Field(default=0, ge=0)
    document_tokens: int = Field(default=48, ge=1)
    warmup: int = Field(default=200, ge=0)
    final: float = Field(default=0.05, ge=0, le=1)
    clip: float = Field(default=1.0, ge=0)
    seed: int = 0

    @property
    def batch_tokens(self) -> int:
        return self.batch_size * self.document_tokens

    @property
    def rows(self) -> int:
        """Rows of a batch: sixteens, as the native engine works on that many at once."""
        return max(1, round(self.batch_tokens / (16 * SHORTEST))) * 16

    @property
    def updates(self) -> int:
        """Updates of an epoch."""
        return self.updates_per_epoch or 10_000 // self.batch_size


class OptimizerConfig(Config):
    type: Literal["sgd", "adam", "adamw"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0001, ge=0)


class Loss(Config):
    """`objective` says what is minimised; the costs are the structural loss's, and how sharply it assigns nodes."""

    objective: Literal["cross_entropy", "structural", "both"] = "cross_entropy"
    node_insertion_cost: float = Field(default=1.0, ge=0)
    node_deletion_cost: float = Field(default=1.0, ge=0)
    edge_insertion_cost: float = Field(default=0.5, ge=0)
    edge_deletion_cost: float = Field(default=0.5, ge=0)
    clique_weight: float = Field(default=2.0, ge=0)
    temperature: float = Field(default=0.1, gt=0)
    iterations: int = Field(default=20, ge=2)
    rounds: int = Field(default=2, ge=0)


class Curriculum(Config):
    """A level is passed when the lower end of its accuracy's 95 % interval reaches `advance_threshold` (after
    `min_epochs_per_level` epochs), and left after `epochs_per_level` in any case. While a level is learnt it has the
    share `current_share` of the tokens, the earlier ones the rest. After the last level every level is learnt with
    `mixture` (levels start_level to end_level) until all epochs are done; with `by_error` a level's share is then also
    in proportion to 0.05 + its share of wrong answers when all were measured last."""

    start_level: int = Field(default=1, ge=1, le=7)
    end_level: int = Field(default=7, ge=1, le=7)
    advance_threshold: float = Field(default=0.95, ge=0, le=1)
    min_epochs_per_level: int = Field(default=5, ge=0)
    current_share: float = Field(default=0.5, gt=0, le=1)
    mixture: tuple[float, ...] = (1, 4, 3, 4, 4, 5, 5)
    measured: int = Field(default=200, ge=1)
    by_error: bool = False


class Paths(Config):
    """`train_data` is where the seed kept its items; they are made while training goes on, so nothing is read there.
    `keep` newest checkpoints stay."""

    train_data: str = "data/generated"
    output_dir: str = "checkpoints"
    log_file: str = "training.log"
    keep: int = Field(default=2, ge=1)


class Hardware(Config):
    """`num_threads` 0 is every processor. `parallel_batches` makes documents in a thread beside the engine."""

    num_threads: int = Field(default=0, ge=0)
    parallel_batches: bool = True
    stream_data: bool = True


class Network(Config):
    """`path` of a network in NureonLang, "" for the one that comes with the package; the others replace its LETs."""

    path: str = ""
    width: int = Field(default=128, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    hidden: int = Field(default=352, ge=8)


class BrainRecipe(Config):
    """A whole run."""

    training: Training = Training()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Loss = Loss()
    curriculum: Curriculum = Curriculum()
    paths: Paths = Paths()
    hardware: Hardware = Hardware()
    network: Network = Network()

    @property
    def levels(self) -> tuple[int, ...]:
        return tuple(range(self.curriculum.start_level, self.curriculum.end_level + 1))

    @property
    def epochs(self) -> int:
        return self.training.epochs or self.training.epochs_per_level * len(self.levels)

    @property
    def settings_hash(self) -> str:
        """A hash of everything that decides the numbers."""
        record = self.model_dump(mode="json", exclude={"paths": True, "hardware": True})
        return content_hash(json.dumps(record, sort_keys=True).encode())
