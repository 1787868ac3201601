import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill_protocol.errors import NoSpace
from gristmill_provider.volume import make_room, take_back


@pytest.mark.slow
def test_a_work_folder_is_no_larger_than_it_may_be(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    limited = make_room(out, 8 * 1024**2)
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

    assert not make_room(out, 8 * 1024**2)
    take_back(out)

    assert {path.name: path.stat().st_mode & 0o777 for path in out.iterdir()} == {"states": 0o777, "result": 0o777}


def test_no_room_is_promised_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"an attempt may write 1048576\.0 GiB.*lower work_gib"):
        make_room(tmp_path, 1024**5)

    assert list(tmp_path.iterdir()) == []
