"""A config is what its TOML says, or one error that names the key, the value and what is allowed."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from alexandra.config import Config, load_config, parse_config, validate
from alexandra.errors import ConfigError


class Stage(Config):
    name: str
    epochs: Annotated[int, Field(ge=1)] = 1


class Native(Config):
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    backend: Literal["native", "reference"] = "native"


class Job(Config):
    seed: int = 0
    lr: float = 0.01
    native: Native = Native()
    stages: tuple[Stage, ...] = ()
    best: Stage | None = None
    limits: dict[str, int] = {}


TEXT = """
seed = 7
lr = 1
[native]
threads = 4
[limits]
rows = 10
[[stages]]
name = "a"
[[stages]]
name = "b"
epochs = 3
"""


def test_toml_becomes_a_frozen_config(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(TEXT)
    job = load_config(path, Job)
    assert job == Job(
        seed=7,
        lr=1.0,
        native=Native(threads=4),
        stages=(Stage(name="a"), Stage(name="b", epochs=3)),
        limits={"rows": 10},
    )
    with pytest.raises(ValueError, match="frozen"):
        job.seed = 1


def test_an_empty_text_is_all_defaults():
    assert parse_config("", Job) == Job()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1", r"f: unknown key 'sead'; known: best, limits, lr, native, seed, stages\. Did you mean 'seed'\?"),
        ("[native]\nthread = 1", r"f: unknown key 'native.thread'; known: backend, threads\. Did you mean 'threads'\?"),
        ('[[stages]]\nname = "a"\nepoch = 1', r"unknown key 'stages.0.epoch'; .*Did you mean 'epochs'\?"),
        ('[best]\nname = "a"\nnam = 1', r"unknown key 'best.nam'; known: epochs, name\. Did you mean 'name'\?"),
        ("[native]\nthreads = 0", "native.threads = 0: input should be greater than or equal to 1"),
        ('[native]\nthreads = "2"', "native.threads = '2': input should be a valid integer"),
        ("[native]\nthreads = true", "native.threads = True: input should be a valid integer"),
        ('[native]\nbackend = "gpu"', "native.backend = 'gpu': input should be 'native' or 'reference'"),
        ("lr = nan", "lr = nan: input should be a finite number"),
        ("[[stages]]\nepochs = 2", "the key 'stages.0.name' is missing"),
        ("seed = ", "f: not TOML: "),
        ("seed = 1\nseed = 2", "f: not TOML: "),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(text, Job, source="f")


def test_all_complaints_come_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config("a = 1\nlr = 'x'", Job, source="f")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["f", "f"]


def test_overrides_lie_over_the_file():
    job = parse_config(TEXT, Job, ["native.threads=8", "native.backend=reference", "limits.rows=5", "lr = 0.5"])
    assert (job.native.threads, job.native.backend, job.limits, job.lr) == (8, "reference", {"rows": 5}, 0.5)
    assert parse_config("", Job, ['best={name="x"}']).best == Stage(name="x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("threads", "cannot read the override 'threads'\nwrite section.key=value"),
        (".a=1", "cannot read the override"),
        ("seed.x=1", "override 'seed.x=1': 'seed' is a value, not a section"),
        ("native.thread=1", "unknown key 'native.thread'"),
    ],
)
def test_a_bad_override_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        parse_config("seed = 1", Job, [override])


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration '.*gone.toml': No such file"):
        load_config(tmp_path / "gone.toml", Job)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "binary.toml", Job)


def test_plain_values_are_checked_the_same_way():
    assert validate({"stages": [{"name": "a"}]}, Job).stages == (Stage(name="a"),)
    with pytest.raises(ConfigError, match="<values>: unknown key 'x'"):
        validate({"x": 1}, Job)
