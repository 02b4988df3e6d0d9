"""A changed or missing byte anywhere in a registry is an error that names its file, before it is used."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest

from alexandra.errors import StorageError
from alexandra.registry.database import reseal
from alexandra.registry.objects import ObjectStore
from alexandra.registry.oracle import Oracle
from alexandra.registry.schema import HEAD, row_checksum
from alexandra.registry.seal import Seal, read_seal, write_seal
from alexandra.registry.store import Registry
from alexandra.rng import derive
from alexandra.storage import content_hash


@pytest.fixture
def copy(stocked, tmp_path):
    """A folder with the stocked registry, free to be damaged."""
    return shutil.copytree(stocked.database.path.parent, tmp_path / "copy")


def use(folder, digest=""):
    """What a user does: open, list, ask, load. `digest`: the object to load, all of them without it."""
    if digest:
        ObjectStore(folder / "objects").get(digest, "it")
        return
    registry = Registry(folder)
    for version in registry.search():
        registry.blobs(version), registry.scorecard(version)
    Oracle(registry).choose("churn")


def files(folder):
    """Every file of a registry that holds anything, by its kind."""
    kinds = {"registry.db": [folder / "registry.db"], "registry.seal": [folder / "registry.seal"]}
    kinds["objects"] = sorted(path for path in (folder / "objects").rglob("*") if path.is_file())
    assert {p for paths in kinds.values() for p in paths} == {
        p for p in folder.rglob("*") if p.is_file() and p.stat().st_size
    }
    return kinds


def damaged(data, draw):
    """`data` with one bit flipped, or cut off somewhere: `draw` is three numbers in [0, 1)."""
    place = int(draw[1] * len(data))
    if draw[0] < 0.2:
        return data[:place]
    changed = bytearray(data)
    changed[place] ^= 1 << int(draw[2] * 8)
    return bytes(changed)


def overwrite(path, data):
    """In place: `write_bytes` would make the file system flush every time."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def assert_all_found(folder, kind, count):
    """`count` random damages to files of a kind: each is a StorageError when the registry is opened or read."""
    paths = files(folder)[kind]
    draws = derive(5, "damage", kind).uniform(4 * count).reshape(count, 4)
    for draw in draws:
        path = paths[int(draw[3] * len(paths))]
        data = path.read_bytes()
        overwrite(path, damaged(data, draw))
        with pytest.raises(StorageError) as caught:
            use(folder, path.name if kind == "objects" else "")
        assert path.name in str(caught.value) or "registry." in str(caught.value)
        overwrite(path, data)
    use(folder)


@pytest.mark.parametrize(("kind", "count"), [("registry.db", 300), ("registry.seal", 200), ("objects", 1000)])
def test_random_damage_is_found(copy, kind, count):
    assert_all_found(copy, kind, count)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("registry.db", 30_000), ("registry.seal", 10_000), ("objects", 60_000)])
def test_a_hundred_thousand_damages_are_found(copy, kind, count):
    assert_all_found(copy, kind, count)


@pytest.mark.parametrize("length", [0, 1, 16, 100, 4096, 8192])
def test_a_truncated_database_is_not_an_empty_registry(copy, length):
    path = copy / "registry.db"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match=r"registry\.db"):
        Registry(copy).search()


def test_a_missing_file_is_named(copy):
    path = files(copy)["objects"][0]
    path.rename(path.with_suffix(".away"))
    with pytest.raises(StorageError, match=f"its file '.*{path.name}' is missing\nrestore it from a backup"):
        use(copy)
    for name in ("registry.db", "registry.seal"):
        (copy / name).rename(copy / "away")
        with pytest.raises(StorageError, match=rf"{name.replace('.', chr(92) + '.')}' is missing"):
            Registry(copy).search()
        (copy / "away").rename(copy / name)


def test_a_damaged_weight_file_is_named_and_healed_by_registering_again(registry, register):
    version = register("mlp")
    path = registry.objects.path(version.blobs["weights.safetensors"])
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(StorageError, match=r"churn:1 weights\.safetensors: its file '.*' is damaged"):
        registry.blobs(version)
    assert [fault.split(":")[0] for fault in registry.verify()] == ["churn"]
    assert register("mlp") == version
    assert registry.verify() == []


def test_damage_is_found_in_a_registry_that_is_open(registry, register):
    register("a")
    path = registry.database.path
    data = bytearray(path.read_bytes())
    place = data.index(b"experiment")
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"registry\.db' is damaged: its bytes do not match its seal"):
        registry.get("churn:1")
    assert registry.verify() != []


def test_a_folder_that_vanishes_is_not_a_new_registry(registry, register):
    register("a")
    shutil.rmtree(registry.database.path.parent)
    with pytest.raises(StorageError, match=r"registry\.(lock|db)"):
        registry.search()
    assert not registry.database.path.exists()


def test_a_row_changed_behind_our_back_is_found_even_when_the_file_is_resealed(registry, register):
    register("a")
    path = registry.database.path
    connection = sqlite3.connect(path)
    connection.execute("UPDATE versions SET parameters = 1")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="do not match its seal"):
        registry.get("churn:1")
    fault = "table 'versions': the row id=1 is damaged (its checksum does not match)"
    assert reseal(path.parent) == [fault]
    found = read_seal(registry.database.seal_path)
    write_seal(registry.database.seal_path, Seal(found.sequence, registry.database.image().image))
    with pytest.raises(StorageError, match="the row id=1 is damaged"):
        registry.get("churn:1")


def test_a_history_that_was_cut_or_a_version_that_was_taken_out_is_found(registry, register):
    for name in ("a", "b", "c"):
        register(name)
    path = registry.database.path
    original = path.read_bytes()
    for statements, fault in (
        (
            ["DROP TRIGGER audit_refuses_delete", "DELETE FROM audit WHERE id = 3"],
            "the audit log has lost its last entries",
        ),
        (
            ["DROP TRIGGER audit_refuses_delete", "DELETE FROM audit WHERE id = 2"],
            "the audit log is broken before entry 3",
        ),
        (
            [f"DELETE FROM {t} WHERE id = 2" for t in ("documents", "metrics", "labels", "serving", "versions")],
            "versions of task 'churn' are lost",
        ),
    ):
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        assert reseal(path.parent) == [fault]
        path.write_bytes(original)
    assert reseal(path.parent) == []


def test_damage_where_nothing_is_stored_can_be_resealed(registry, register):
    register("a")
    path = registry.database.path
    data = bytearray(path.read_bytes())
    free = next(i for i in range(len(data) - 64, 0, -1) if not any(data[i : i + 64]))
    data[free + 32] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"do not match its seal\nrestore the folder from a backup, or.*reseal\('"):
        registry.get("churn:1")
    assert reseal(path.parent) == []
    assert registry.get("churn:1").name == "a"


def test_an_older_copy_of_the_database_is_refused(registry, register):
    register("a")
    old = registry.database.path.read_bytes()
    register("b"), register("c")
    registry.database.path.write_bytes(old)
    with pytest.raises(StorageError, match=r"registry\.db' has lost its last 2 transactions"):
        registry.search()


def test_damage_in_a_write_ahead_log_that_a_crash_left_is_found(registry, register, tmp_path):
    """SQLite would drop the damaged transactions and all later ones without a word."""
    register("a")
    home = registry.database.path.parent
    reader = sqlite3.connect(home / "registry.db", isolation_level=None)
    reader.execute("SELECT * FROM head").fetchone()
    register("b"), register("c")  # the open reader keeps the log from being folded into the database
    left = shutil.copytree(home, tmp_path / "left", ignore=shutil.ignore_patterns("*-shm"))
    reader.close()
    log, data = left / "registry.db-wal", (left / "registry.db-wal").read_bytes()
    assert len(data) > 10_000
    database = (left / "registry.db").read_bytes()
    for draw in derive(6, "log").uniform(4 * 150).reshape(150, 4):
        log.write_bytes(damaged(data, draw))
        with pytest.raises(StorageError, match=r"registry\.db' (has lost its last \d transactions|is damaged)"):
            Registry(left).search()
        (left / "registry.db").write_bytes(database)
    log.write_bytes(data)
    assert [version.name for version in Registry(left).search()] == ["c", "b", "a"]


def test_a_registry_of_another_schema_is_refused(registry, register):
    register("a")
    path = registry.database.path
    with sqlite3.connect(path) as connection:
        row = dict(zip(HEAD.c.keys(), connection.execute("SELECT * FROM head").fetchone(), strict=True))
        row["schema"] = 2
        connection.execute("UPDATE head SET schema = 2, checksum = ?", [row_checksum(HEAD, row)])
    connection.close()
    write_seal(registry.database.seal_path, Seal(row["sequence"], content_hash(path.read_bytes())))
    for folder in (path.parent, str(path.parent)):
        with pytest.raises(StorageError, match="the registry has schema 2; this version of Alexandra reads 1"):
            Registry(folder).search()


def test_every_byte_of_a_scorecard_is_covered(registry, register):
    """Not by the object's name alone: a scorecard that is copied elsewhere still finds its own damage."""
    from alexandra.registry import scorecards

    version = register("mlp", n=4)
    parts = {name: registry.objects.get(digest, name) for name, digest in version.scorecard.items()}
    tensors = parts[scorecards.TENSORS]
    for place in np.linspace(0, len(tensors) - 1, 200).astype(int):
        changed = bytearray(tensors)
        changed[place] ^= 4
        with pytest.raises(StorageError):
            scorecards.decode({**parts, scorecards.TENSORS: bytes(changed)}, "copy")
