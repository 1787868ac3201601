import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

import gristmill_provider.artifacts
from fakes.provider_side import DATA, TOKEN, FakeArtifacts, ref
from gristmill_protocol.errors import (
    GristmillError,
    NoSpace,
    NotAllowed,
    NotFound,
    NotSignedIn,
    TooLarge,
    Unavailable,
    WrongHash,
)
from gristmill_provider.artifacts import ArtifactCache, ArtifactClient


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache", adopt_bytes=64 * 1024)


@pytest.fixture
async def client(cache: ArtifactCache, artifacts: FakeArtifacts) -> AsyncIterator[ArtifactClient]:
    async with httpx.AsyncClient(transport=artifacts.transport(), base_url="http://coordinator") as http:
        yield ArtifactClient(cache, http, token=lambda: TOKEN)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    made = tmp_path / "task" / "out"
    made.mkdir(parents=True)
    return made


def names(cache: ArtifactCache) -> list[str]:
    return sorted(path.name for path in cache.path("x").parent.iterdir())


async def test_a_file_is_fetched_once_and_checked(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts
) -> None:
    await client.fetch(ref(DATA))
    await client.fetch(ref(DATA))

    assert cache.path(ref(DATA).sha256).read_bytes() == DATA
    assert len(artifacts.requests) == 1


async def test_a_download_that_was_cut_off_goes_on_where_it_was(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts
) -> None:
    artifacts.cut_after = 5

    with pytest.raises(Unavailable, match="cannot be reached"):
        await client.fetch(ref(DATA))
    await client.fetch(ref(DATA))

    assert artifacts.requests[1].headers["range"] == "bytes=5-"
    assert cache.path(ref(DATA).sha256).read_bytes() == DATA


async def test_a_download_goes_on_in_the_nodes_next_life(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts
) -> None:
    artifacts.cut_after = 5
    with pytest.raises(Unavailable):
        await client.fetch(ref(DATA))

    again = ArtifactCache(cache.path("x").parent, adopt_bytes=1)
    with again.incoming(ref(DATA).sha256, name="fetched") as part:
        assert part.size_bytes == 5
        part.write(DATA[5:])

    assert again.path(ref(DATA).sha256).read_bytes() == DATA


async def test_an_upload_goes_on_where_it_was_broken_off(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, out: Path
) -> None:
    (out / "state").write_bytes(b"a long state")
    sha256 = ref(b"a long state").sha256
    cache.adopt(out / "state", below=out, sha256=sha256)
    artifacts.broken_off[sha256] = b"a long"

    await client.upload(sha256)

    assert artifacts.requests[-1].content == b" state"
    assert artifacts.held[sha256] == b"a long state"


async def test_an_upload_of_which_nothing_is_left_begins_anew(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, out: Path
) -> None:
    (out / "state").write_bytes(b"a long state")
    sha256 = ref(b"a long state").sha256
    cache.adopt(out / "state", below=out, sha256=sha256)
    artifacts.broken_off[sha256] = b"a long"
    artifacts.forgets = True

    await client.upload(sha256)

    assert [request.method for request in artifacts.requests] == ["HEAD", "PUT", "PUT"]
    assert artifacts.held[sha256] == b"a long state"


@pytest.mark.parametrize("of_now", [Unavailable("We are being updated."), NotSignedIn("Your token is too old.")])
async def test_an_outage_is_sat_out(of_now: GristmillError, cache: ArtifactCache, artifacts: FakeArtifacts) -> None:
    artifacts.refuses = of_now
    tries = iter(range(20))

    def in_time() -> bool:
        if next(tries) == 19:
            artifacts.refuses = None
        return True

    async with httpx.AsyncClient(transport=artifacts.transport(), base_url="http://coordinator") as http:
        await ArtifactClient(cache, http, token=lambda: TOKEN, retry_s=(0, 0)).fetch_in_time(ref(DATA), in_time)

    assert len(artifacts.requests) == 21
    assert cache.has(ref(DATA).sha256)


@pytest.mark.parametrize(
    ("refusal", "in_time"), [(Unavailable("No."), False), (NoSpace("Full."), True), (NotFound("None."), True)]
)
async def test_what_waiting_does_not_mend_is_not_waited_for(
    refusal: GristmillError, in_time: bool, client: ArtifactClient, artifacts: FakeArtifacts
) -> None:
    artifacts.refuses = refusal

    with pytest.raises(type(refusal)):
        await client.fetch_in_time(ref(DATA), lambda: in_time)

    assert len(artifacts.requests) == 1


@pytest.mark.parametrize("lie", [b"a packed data seT", b"a packed data set, and more"])
async def test_wrong_content_leaves_nothing(
    lie: bytes, client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts
) -> None:
    artifacts.held[ref(DATA).sha256] = lie

    with pytest.raises(WrongHash):
        await client.fetch(ref(DATA))

    assert not cache.has(ref(DATA).sha256)
    artifacts.add(DATA)
    await client.fetch(ref(DATA))
    assert names(cache) == [ref(DATA).sha256]


async def test_a_missing_file_is_named(client: ArtifactClient) -> None:
    with pytest.raises(NotFound):
        await client.fetch(ref(b"never heard of"))


async def test_what_the_coordinator_has_is_not_sent_again(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, out: Path
) -> None:
    (out / "state").write_bytes(b"state")
    cache.adopt(out / "state", below=out, sha256=ref(b"state").sha256)

    await client.upload(ref(b"state").sha256)
    await client.upload(ref(b"state").sha256)

    assert artifacts.held[ref(b"state").sha256] == b"state"
    assert [request.method for request in artifacts.requests] == ["HEAD", "PUT", "HEAD"]


@pytest.mark.parametrize("refusal", [NotAllowed("Not yours."), Unavailable("No room.")])
async def test_a_refusal_says_what_the_coordinator_said(
    refusal: GristmillError, client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, out: Path
) -> None:
    (out / "state").write_bytes(b"state")
    cache.adopt(out / "state", below=out, sha256=ref(b"state").sha256)
    artifacts.refuses = refusal

    with pytest.raises(type(refusal), match=refusal.what):
        await client.upload(ref(b"state").sha256)


def test_an_adopted_file_moves_into_the_cache(cache: ArtifactCache, out: Path) -> None:
    (out / "states").mkdir()
    (out / "states" / "0").write_bytes(b"state")

    cache.adopt(out / "states" / "0", below=out, sha256=ref(b"state").sha256)

    assert cache.path(ref(b"state").sha256).read_bytes() == b"state"
    assert not (out / "states" / "0").exists()


def test_a_claimed_hash_is_checked(cache: ArtifactCache, out: Path) -> None:
    (out / "state").write_bytes(b"state")

    with pytest.raises(WrongHash):
        cache.adopt(out / "state", below=out, sha256=ref(b"other").sha256)

    assert names(cache) == []


@pytest.mark.parametrize("trick", ["link", "folder link", "dots", "pipe", "folder", "nothing"])
def test_no_trick_makes_the_node_read_elsewhere(trick: str, cache: ArtifactCache, out: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    source = out / "state"
    match trick:
        case "link":
            source.symlink_to(tmp_path / "secret")
        case "folder link":
            (out / "states").symlink_to(tmp_path)
            source = out / "states" / "secret"
        case "dots":
            source = out / ".." / ".." / "secret"
        case "pipe":
            os.mkfifo(source)
        case "folder":
            source.mkdir()

    with pytest.raises(Unavailable, match="training program names"):
        cache.adopt(source, below=out, sha256=ref(b"secret").sha256)

    assert names(cache) == []


def test_a_file_with_holes_does_not_fill_the_disk(cache: ArtifactCache, out: Path) -> None:
    with (out / "state").open("wb") as file:
        file.truncate(1024**4)

    with pytest.raises(TooLarge, match="hands in more"):
        cache.adopt(out / "state", below=out, sha256=ref(b"zeros").sha256)

    assert sum(path.stat().st_size for path in cache.path("x").parent.iterdir()) == 0


async def test_what_is_left_of_the_disk_is_the_owners(tmp_path: Path, artifacts: FakeArtifacts) -> None:
    cache = ArtifactCache(tmp_path / "cache", adopt_bytes=1, keep_free_bytes=shutil.disk_usage(tmp_path).total)
    async with httpx.AsyncClient(transport=artifacts.transport(), base_url="http://coordinator") as http:
        with pytest.raises(NoSpace, match="no room left"):
            await ArtifactClient(cache, http, token=lambda: TOKEN).fetch(ref(DATA))

    assert not cache.has(ref(DATA).sha256)


async def test_pruning_drops_the_longest_unused_and_nothing_needed(cache: ArtifactCache, out: Path) -> None:
    for age, content in enumerate((b"new", b"mid", b"old")):
        (out / "file").write_bytes(content)
        cache.adopt(out / "file", below=out, sha256=ref(content).sha256)
        os.utime(cache.path(ref(content).sha256), (1000 - age, 1000 - age))

    await cache.prune(keep=lambda: {ref(b"old").sha256}, max_bytes=6)

    assert names(cache) == sorted([ref(b"new").sha256, ref(b"old").sha256])


async def test_pruning_drops_downloads_that_nobody_goes_on_with(cache: ArtifactCache) -> None:
    for content, age_s in ((b"old", 90_000), (b"new", 80_000)):
        with suppress(KeyboardInterrupt), cache.incoming(ref(content).sha256, name="fetched") as part:
            part.write(content[:1])
            raise KeyboardInterrupt
        file = cache.path(f"{ref(content).sha256}.fetched.part")
        os.utime(file, (time.time() - age_s,) * 2)

    await cache.prune(keep=frozenset, max_bytes=100)

    assert names(cache) == [f"{ref(b'new').sha256}.fetched.part"]


async def test_a_placed_file_is_the_cached_one_and_cannot_be_changed(cache: ArtifactCache, out: Path) -> None:
    (out / "file").write_bytes(b"data")
    cache.adopt(out / "file", below=out, sha256=ref(b"data").sha256)

    await cache.place(ref(b"data").sha256, out / "data")

    assert (out / "data").read_bytes() == b"data"
    assert (out / "data").stat().st_mode & 0o222 == 0


async def test_a_file_is_placed_on_another_disk_too(cache: ArtifactCache, out: Path) -> None:
    (out / "file").write_bytes(b"data")
    cache.adopt(out / "file", below=out, sha256=ref(b"data").sha256)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        target = Path(elsewhere) / "data"

        placing = asyncio.create_task(cache.place(ref(b"data").sha256, target))
        await cache.prune(keep=frozenset, max_bytes=0)
        await placing

        assert target.read_bytes() == b"data"
        assert target.stat().st_mode & 0o222 == 0
    assert names(cache) == []


async def test_what_has_to_be_kept_may_change_while_others_are_deleted(cache: ArtifactCache, out: Path) -> None:
    contents = (b"old", b"mid", b"new")
    for age, content in enumerate(contents):
        (out / "file").write_bytes(content)
        cache.adopt(out / "file", below=out, sha256=ref(content).sha256)
        os.utime(cache.path(ref(content).sha256), (1000 + age,) * 2)

    def keep() -> set[str]:  # once the first is gone, the second is needed
        return set() if cache.has(ref(b"old").sha256) else {ref(b"mid").sha256}

    await cache.prune(keep=keep, max_bytes=0)

    assert names(cache) == [ref(b"mid").sha256]


async def test_the_node_goes_on_while_a_large_download_is_read_again_and_written(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off, loop, slow = DATA[:5], asyncio.get_running_loop(), list[str]()
    with suppress(KeyboardInterrupt), cache.incoming(ref(DATA).sha256, name="fetched") as part:
        part.write(broken_off)
        raise KeyboardInterrupt

    def until_the_loop_turns(what: str) -> None:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(5), f"the node stands still while it has to {what}"
        slow.append(what)

    class Hasher:
        def __init__(self) -> None:
            self._real = sha256()
            self.hexdigest = self._real.hexdigest

        def update(self, chunk: bytes) -> None:
            if chunk == broken_off:
                until_the_loop_turns("read")
            self._real.update(chunk)

    monkeypatch.setattr(gristmill_provider.artifacts, "new_sha256", Hasher)
    monkeypatch.setattr(os, "fsync", lambda _: until_the_loop_turns("write"))
    await client.fetch(ref(DATA))

    assert slow == ["read", "write"]
    assert cache.path(ref(DATA).sha256).read_bytes() == DATA


async def test_who_is_cancelled_while_a_file_is_written_leaves_it_to_the_next(
    client: ArtifactClient, cache: ArtifactCache, artifacts: FakeArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def slow(_: int) -> None:
        loop.call_soon_threadsafe(writing.set)
        assert go_on.wait(5)

    monkeypatch.setattr(os, "fsync", slow)
    first = asyncio.create_task(client.fetch(ref(DATA)))
    await writing.wait()
    first.cancel()
    second = asyncio.create_task(client.fetch(ref(DATA)))
    loop.call_soon(go_on.set)
    await second

    assert first.cancelled()
    assert cache.path(ref(DATA).sha256).read_bytes() == DATA
    assert len(artifacts.requests) == 1
