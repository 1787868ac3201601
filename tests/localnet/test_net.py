"""A localnet starts in a folder of its own with room in it, or not at all."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from gristmill_localnet.net import localnet
from gristmill_protocol.errors import Conflict, NoSpace

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10**6, 10**6))

    with pytest.raises(NoSpace, match=r"has 1 MB left.*Nothing was started.*--folder"), localnet(tmp_path / "net"):
        pass


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("mine")

    with pytest.raises(Conflict, match="no localnet made"), localnet(tmp_path):
        pass

    assert (tmp_path / "photo.png").read_text() == "mine"
