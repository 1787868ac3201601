import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill_protocol.errors import NoSpace
from gristmill_provider.volume import make_room, take_back


@pytest.mark.slow
def test_a_work_folder_is_no_larger_than_it_may_be(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    limited = make_room(out, 8 * 1024**2, keep_free_bytes=0)
    if not limited:
        require(os.geteuid() != 0, "root cannot mount here")
        pytest.skip("only root can limit a folder")
    try:
        with pytest.raises(OSError, match="No space") as full:
            (out / "filler").write_bytes(bytes(16 * 1024**2))
    finally:
        take_back(out)

    assert full.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == [out]
    assert list(out.iterdir()) == []


def test_without_root_the_folder_stays_plain_and_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    out = tmp_path / "out"
    out.mkdir()

    assert not make_room(out, 8 * 1024**2, keep_free_bytes=0)
    take_back(out)

    assert {path.name: path.stat().st_mode & 0o777 for path in out.iterdir()} == {"states": 0o777, "result": 0o777}


def test_no_room_is_promised_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"an attempt may write 1048576\.0 GiB.*lower work_gib"):
        make_room(tmp_path, 1024**5, keep_free_bytes=0)

    assert list(tmp_path.iterdir()) == []


def test_no_room_is_promised_that_the_owner_keeps(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"and \d+\.\d GiB of it stay free.*lower work_gib or keep_free_gib"):
        make_room(tmp_path, 8 * 1024**2, keep_free_bytes=shutil.disk_usage(tmp_path).total)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_room_is_promised_twice(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    require(os.geteuid() == 0, "only root can limit a folder")
    disk = tmp_path / "disk"
    runs = [disk / "1", disk / "2"]
    disk.mkdir()
    make_room(disk, 32 * 1024**2, keep_free_bytes=0)
    try:
        for run in runs:
            run.mkdir()
        assert make_room(runs[0], 16 * 1024**2, keep_free_bytes=0)
        with pytest.raises(NoSpace):
            make_room(runs[1], 16 * 1024**2, keep_free_bytes=0)
        (runs[0] / "filler").write_bytes(bytes(8 * 1024**2))
        assert [path.name for path in disk.glob("*.ext4")] == ["1.ext4"]
    finally:
        for folder in (*runs, disk):
            take_back(folder)


@pytest.mark.slow
def test_a_disk_that_can_set_nothing_aside_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    require: Callable[[bool, str], None],
) -> None:
    require(os.geteuid() == 0, "only root can limit a folder")

    run = subprocess.run

    def without(command: tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[bytes]:
        if command[0] == "fallocate":
            raise subprocess.CalledProcessError(1, command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", without)
    out = tmp_path / "out"
    out.mkdir()
    try:
        assert make_room(out, 8 * 1024**2, keep_free_bytes=0)
    finally:
        take_back(out)

    assert "work_folder_not_set_aside" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_said_to_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[bool, str], None]
) -> None:
    require(os.geteuid() == 0, "only root can limit a folder")
    disk = tmp_path / "disk"
    disk.mkdir()
    make_room(disk, 32 * 1024**2, keep_free_bytes=0)
    run = disk / "1"
    run.mkdir()
    usage, elsewhere = shutil.disk_usage, [tmp_path]  # where it is looked at first, before it filled up
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(elsewhere.pop() if elsewhere else folder))
    try:
        with pytest.raises(NoSpace):
            make_room(run, 64 * 1024**2, keep_free_bytes=0)

        assert list(disk.glob("*.ext4")) == []
    finally:
        take_back(disk)
