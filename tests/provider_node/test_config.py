import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gristmill_protocol.errors import BadSettings, NotFound
from gristmill_provider.config import is_loopback, load_config, write_config

DIGEST = "gristmill-trainer@sha256:" + "0" * 64
WHOLE = f"""
name = "Ann's workstation"
coordinator = "mill.example.org:8443"
coordinator_url = "https://mill.example.org"
keystore = "node.json"
password_file = "/etc/gristmill/password"
provider_id = 7
ask_usd_per_gpu_hour = "0.30"
image = "{DIGEST}"
state_dir = "state"
[limits]
memory_gib = 16
"""


OTHER = {"coordinator": "b.org:8081", "coordinator_url": "https://b.org", "provider_id": 9}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "node.toml"
    made.write_text(WHOLE)
    return made


def test_a_configuration_is_read_with_exact_money_and_paths_beside_it(file: Path) -> None:
    config = load_config(file)

    assert config.ask_usd_micros_per_gpu_hour == 300_000
    assert config.keystore == file.parent / "node.json"
    assert config.password_file == Path("/etc/gristmill/password")
    assert config.limits.memory_bytes == 16 * 1024**3
    assert (config.backend, config.cpu) == ("docker", False)


def test_flags_lie_over_the_file(file: Path) -> None:
    config = load_config(file, {"ask_usd_per_gpu_hour": "0.5", "cpu": True, "name": None})

    assert (config.ask_usd_micros_per_gpu_hour, config.cpu, config.name) == (500_000, True, "Ann's workstation")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ask_usd_per_gpu_hour": "cheap"}, "'cheap' is not an amount of USD"),
        ({"ask_usd_per_gpu_hour": "0.0000001"}, "at most six decimals"),
        ({"image": "gristmill-trainer:latest"}, "named by its digest"),
        ({"backend": "process"}, "runs nobody else's jobs"),
        ({"backend": "podman"}, "backend"),
        ({"coordinator_url": "http://mill.example.org"}, "must start with https"),
        ({"backend": "process", "own_market": True}, "on this very machine"),
        ({"own_renters": ["me"]}, "own_renters"),
        ({"slots": 0}, "slots"),
        ({"recipes": []}, "recipes"),
        ({"price": "0.30"}, "price"),
        ({"electricity_usd_per_kwh": "dear"}, "'dear' is not an amount of USD"),
        ({"owner": {"hours": {"mon": "22-7"}}}, "'22-7' is no time such as 22:00-07:00"),
        ({"owner": {"timezone": "Mars"}}, "'Mars' is no time zone"),
        ({"gpu": "GPU-a", "more_gpus": [{"gpu": "GPU-a"}]}, "a card is named twice"),
        ({"more_gpus": [{"gpu": "GPU-b", "ask_usd_per_gpu_hour": "free"}]}, "'free' is not an amount of USD"),
        ({"cpu": True, "more_gpus": [{"gpu": "GPU-a"}]}, "more_gpus must be empty"),
        ({"more_coordinators": [dict(OTHER, coordinator_url="http://b.org")]}, "must start with https"),
        ({"more_coordinators": [dict(OTHER, coordinator="mill.example.org:8443")]}, "a coordinator is named twice"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], words: str, file: Path) -> None:
    with pytest.raises(BadSettings, match=words):
        load_config(file, changes)


def test_every_card_is_a_node_for_every_coordinator(file: Path) -> None:
    config = load_config(
        file,
        {"gpu": "GPU-a", "more_gpus": [{"gpu": "GPU-b", "ask_usd_per_gpu_hour": "0.9"}], "more_coordinators": [OTHER]},
    )

    state = file.parent / "state"
    assert [one.ask_usd_micros_per_gpu_hour for one in config.nodes()] == [300_000, 300_000, 900_000, 900_000]
    assert [(one.gpu, one.coordinator, one.provider_id, one.state_dir) for one in config.nodes()] == [
        ("GPU-a", "mill.example.org:8443", 7, state),
        ("GPU-a", "b.org:8081", 9, state / "coordinators" / "b.org%3A8081"),
        ("GPU-b", "mill.example.org:8443", 7, state / "cards" / "GPU-b"),
        ("GPU-b", "b.org:8081", 9, state / "cards" / "GPU-b" / "coordinators" / "b.org%3A8081"),
    ]
    assert all(one.nodes() == (one,) for one in config.nodes())


def test_the_owner_of_a_whole_market_runs_everybodys_jobs_there(file: Path) -> None:
    here = {"coordinator": "127.0.0.1:8081", "coordinator_url": "http://127.0.0.1:8080"}

    config = load_config(file, {"backend": "process", "own_market": True, **here})

    assert (config.backend, config.own_renters) == ("process", ())


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name =")

    with pytest.raises(BadSettings, match="not valid TOML"):
        load_config(tmp_path / "broken.toml")
    with pytest.raises(NotFound, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")


@given(name=st.text(min_size=1, max_size=80))
@example(name="rig \N{ROCKET}")
@example(name='"\\\x7f\x00\x85\r\n\t\u2028')
def test_a_written_file_is_read_as_it_was_meant(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = {**tomllib.loads(WHOLE), "name": name, "cpu": True, "own_renters": ["0x" + "12" * 20]}
    file = tmp_path_factory.getbasetemp() / "written.toml"

    written = write_config({name: value for name, value in whole.items() if name != "limits"}, file)

    assert written == load_config(file)
    assert (written.name, written.cpu, written.own_renters) == (name, True, ("0x" + "12" * 20,))


def test_what_cannot_be_used_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="slots"):
        write_config({**tomllib.loads(WHOLE), "slots": 0}, tmp_path / "node.toml")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True),
        ("10.0.0.1", False), ("localhost.example.org", False), ("0.0.0.0", False), ("", False),
    ],
)  # fmt: skip
def test_only_this_machine_may_do_without_encryption(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
