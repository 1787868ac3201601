"""Artifacts on disk: whole or not at all, whatever happens on the way."""

import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill_coordinator.artifacts.store import ArtifactStore
from gristmill_protocol.errors import Conflict, NoSpace, NotFound, TooLarge, WrongHash

CONTENT = os.urandom(3_000_000)
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def files(store: ArtifactStore, tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


async def test_artifact_reads_back(store: ArtifactStore) -> None:
    stored = await store.put(DIGEST, pieces(CONTENT))

    assert (stored.sha256, stored.size_bytes) == (DIGEST, len(CONTENT))
    assert store.has(DIGEST)
    assert store.size(DIGEST) == len(CONTENT)
    assert store.read(DIGEST) == CONTENT


async def test_same_artifact_again_is_harmless(store: ArtifactStore, tmp_path: Path) -> None:
    await store.put(DIGEST, pieces(CONTENT))
    await store.put(DIGEST, pieces(CONTENT))

    assert len(files(store, tmp_path)) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(content=st.binary(max_size=5_000), size=st.integers(1, 3_000))
async def test_any_content_in_any_pieces_reads_back(store: ArtifactStore, content: bytes, size: int) -> None:
    digest = sha256(content).hexdigest()

    await store.put(digest, pieces(content, size))

    assert store.read(digest) == content


async def test_wrong_hash_stores_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(WrongHash, match=DIGEST):
        await store.put("00" * 32, pieces(CONTENT))

    assert files(store, tmp_path) == []


async def test_too_large_is_refused_while_it_arrives(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts", max_bytes=100_000)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield bytes(65_536)

    with pytest.raises(TooLarge):
        await store.put(DIGEST, endless())

    assert taken == 2 * 65_536
    assert files(store, tmp_path) == []


async def test_full_disk_stores_nothing(tmp_path: Path) -> None:
    def on_a_full_disk(path: Path) -> BinaryIO:
        path.touch()
        return open("/dev/full", "wb", buffering=0)

    store = ArtifactStore(tmp_path / "artifacts", create=on_a_full_disk)

    with pytest.raises(NoSpace, match="disk is full"):
        await store.put(DIGEST, pieces(CONTENT))

    assert files(store, tmp_path) == []


async def test_broken_off_upload_stores_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:2_000_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(DIGEST, broken())

    assert files(store, tmp_path) == []


@pytest.mark.parametrize("kept", [1, 65_536, 2_000_000])
async def test_an_upload_goes_on_where_it_was_broken_off(store: ArtifactStore, tmp_path: Path, kept: int) -> None:
    await break_off(store, "node:1")

    assert store.received(DIGEST, "node:1") == 2_000_000
    await store.put(DIGEST, pieces(CONTENT[kept:]), caller="node:1", offset=kept)

    assert store.read(DIGEST) == CONTENT
    assert len(files(store, tmp_path)) == 1
    assert store.received(DIGEST, "node:1") == 0


async def test_what_was_broken_off_is_its_senders_alone(store: ArtifactStore) -> None:
    await break_off(store, "node:1")

    assert store.received(DIGEST, "node:2") == 0
    with pytest.raises(Conflict, match="Less than 10 bytes"):
        await store.put(DIGEST, pieces(CONTENT[10:]), caller="node:2", offset=10)


async def test_going_on_with_other_bytes_stores_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    await break_off(store, "node:1")

    with pytest.raises(WrongHash):
        await store.put(DIGEST, pieces(bytes(1_000_000)), caller="node:1", offset=2_000_000)

    assert files(store, tmp_path) == []
    await break_off(store, "node:1")
    with pytest.raises(Conflict, match="Less than 2500000"):
        await store.put(DIGEST, pieces(CONTENT[2_500_000:]), caller="node:1", offset=2_500_000)


async def test_two_at_once_do_not_disturb_one_another(store: ArtifactStore, tmp_path: Path) -> None:
    async def meanwhile() -> AsyncIterator[bytes]:
        yield CONTENT[2_000_000:]
        with pytest.raises(Conflict):
            await store.put(DIGEST, pieces(CONTENT[2_000_000:]), caller="node:1", offset=2_000_000)
        await store.put(DIGEST, pieces(CONTENT), caller="node:1")

    await break_off(store, "node:1")
    await store.put(DIGEST, meanwhile(), caller="node:1", offset=2_000_000)

    assert store.read(DIGEST) == CONTENT
    assert len(files(store, tmp_path)) == 1


async def break_off(store: ArtifactStore, caller: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:2_000_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(DIGEST, broken(), caller=caller)


async def test_artifact_is_not_seen_before_it_is_whole(store: ArtifactStore) -> None:
    seen = []

    async def watched() -> AsyncIterator[bytes]:
        async for piece in pieces(CONTENT):
            seen.append(store.has(DIGEST))
            yield piece

    await store.put(DIGEST, watched())

    assert not any(seen)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65])
def test_what_is_no_hash_is_not_found(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(NotFound):
        store.path(digest)


def test_deleting_what_is_gone_is_harmless(store: ArtifactStore) -> None:
    store.delete(DIGEST)

    assert not store.has(DIGEST)


def test_next_start_removes_what_a_dead_process_left(tmp_path: Path) -> None:
    ArtifactStore(tmp_path)
    old, fresh = tmp_path / "incoming" / "old", tmp_path / "incoming" / "fresh"
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))

    ArtifactStore(tmp_path)

    assert not old.exists()
    assert fresh.exists()  # another process may be writing it


async def test_content_of_our_own_is_addressed_by_its_hash(store: ArtifactStore) -> None:
    ref = await store.put_bytes(b"certificate")

    assert store.read(ref.sha256) == b"certificate"
