"""`gristmill verify`: a true certificate holds; whatever byte is changed, a sentence names what does not match."""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gristmill as gm
from fakes.certified import MARKET, NODE, OPERATOR, STRANGER, Certified, digest, put, signed
from gristmill._verify import Trusted, verify
from gristmill.testing import FakeCoordinator
from gristmill_protocol.canonical import canonical_json
from gristmill_protocol.certificate import FILE, CertificateStatement, Envelope, sign
from gristmill_protocol.model_card import CARD, MARKER, attach, story

TRUE = Certified()
STATEMENT = TRUE.statement()
GOOD = signed(STATEMENT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return TRUE.write(tmp_path / "model")


def problems(folder: Path, trusted: Trusted = Trusted()) -> list[str]:  # noqa: B008  frozen
    return [finding.text for finding in verify(folder, trusted) if finding.mark == "wrong"]


def test_a_true_certificate_holds_and_says_what_it_does_not_prove(model: Path) -> None:
    deployment = {"chain_id": 31337, "ledger": MARKET.ledger, "registry": MARKET.registry, "coordinator_id": 1}

    found = verify(model, Trusted(OPERATOR.address, deployment))

    assert {finding.mark for finding in found} == {"ok", "note"}
    said = "\n".join(finding.text for finding in found)
    for words in (
        f"signed by its coordinator's key {OPERATOR.address}",
        "That is the operator you named.",
        f"Signed by provider 3's machine, key {NODE.address}",
        "model.safetensors is the file that was certified",
        "recipe.lock names the same recipe image-sorter",
        "'willow' signed all of its 6 records",
        "every drawn segment was run again and matched",
        "A verifier ran the last segment and made the files again",
        "lead without a gap from the initial state to the final one, step 0 to 24",
        "Not proven: Names and devices",
        "is not asked of the chain here",
    ):
        assert words in said


# Bytes


def _payload_span() -> range:
    start = GOOD.index(b'"payload":"') + len(b'"payload":"')
    return range(start, GOOD.index(b'"', start))


def test_every_byte_around_the_statement_counts(model: Path) -> None:
    outside = [at for at in range(len(GOOD)) if at not in _payload_span()]
    passed = []
    for at in outside:
        put(model, GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :])
        if not problems(model):
            passed.append(at)

    assert len(outside) > 300
    assert passed == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(at=st.sampled_from(_payload_span()), to=st.integers(0, 255))
def test_every_byte_of_the_statement_counts(model: Path, at: int, to: int) -> None:
    put(model, GOOD[:at] + bytes([to]) + GOOD[at + 1 :])

    assert bool(problems(model)) == (GOOD[at] != to)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: b"",
        lambda file: file[:-1],
        lambda file: file + b"\n",
        lambda file: b" " + file,
        lambda file: file.replace(b'","', b'", "'),
        lambda file: json.dumps(json.loads(file), indent=1).encode(),
        lambda file: file.replace(b"application/vnd.in-toto+json", b"application/json"),
        lambda file: b"no JSON",
        lambda file: b"\xff\xfe",
    ],
)
def test_another_file_for_the_same_content_is_refused(model: Path, change: Callable[[bytes], bytes]) -> None:
    put(model, change(GOOD))

    [problem] = problems(model)
    assert FILE in problem


# Fields


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def _other(value: Any) -> Any:
    """A value of the same form."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value[:-1] + ("1" if value[-1:] == "0" else "0")
        case None:
            return "0" * 64
    return [1] if value == [] else {"more": 1}


@lru_cache
def _plain() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(STATEMENT.payload())
    return plain


def _changed(path: tuple[Any, ...]) -> bytes:
    """The payload with one field changed."""
    whole: dict[str, Any] = json.loads(STATEMENT.payload())
    place: Any = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = _other(place[path[-1]])
    return canonical_json(whole)


def test_every_field_of_the_statement_counts(model: Path) -> None:
    signatures = [(key.address, sign(key, STATEMENT.payload())) for key in (OPERATOR, NODE)]
    sentences: dict[str, list[str]] = {}
    for path in _leaves(_plain()):
        put(model, Envelope.of(_changed(path), signatures).file())
        sentences[".".join(map(str, path))] = problems(model)

    assert len(sentences) > 150
    assert [path for path, found in sentences.items() if len(found) != 1] == []
    mismatch = f"The signature of {OPERATOR.address} does not match what is signed"
    assert mismatch in sentences["predicate.seed"][0]
    assert mismatch in sentences["subject.0.digest.sha256"][0]


def test_whoever_signs_a_changed_statement_anew_is_not_its_signer(model: Path) -> None:
    whole = _plain() | {"predicate": _plain()["predicate"] | {"seed": 8}}
    forged = CertificateStatement.model_validate_json(canonical_json(whole))
    put(model, signed(forged, STRANGER, STRANGER))

    [problem] = problems(model)

    assert f"The signature of {OPERATOR.address} is missing" in problem
    assert STRANGER.address in problem


def test_a_certificate_of_another_s_making_names_its_maker(model: Path) -> None:
    market = MARKET.model_copy(update={"operator": STRANGER.address})
    put(model, signed(TRUE.statement(market=market, asked=()), STRANGER))

    assert any(f"Signed by {STRANGER.address}, which you have to know" in one.text for one in verify(model, Trusted()))
    assert problems(model, Trusted(OPERATOR.address)) == [
        f"You named the operator {OPERATOR.address}: not that one.",
        f"What {CARD} says of how it came to be is not what the certificate says.",
    ]


def test_contracts_other_than_published_are_named(model: Path) -> None:
    deployment = {"chain_id": 1, "ledger": MARKET.ledger, "registry": MARKET.registry, "coordinator_id": 1}

    assert problems(model, Trusted(deployment=deployment)) == ["Its chain_id is 31337; the deployment says 1."]


# A lie that everybody signed still has to fit together


def _window(**changes: Any) -> dict[str, Any]:
    [part] = TRUE.predicate().windows
    return {"windows": (part.model_copy(update=changes),)}


def _with_record(index: int, **changes: Any) -> dict[str, Any]:
    records = list(TRUE.records())
    record = records[index].record.model_copy(update=changes)
    records[index] = records[index].model_copy(update={"record": record})
    evidence = TRUE.evidence()
    leaves = list(evidence.leaves)
    leaves[index] = record.leaf().hex()
    return _window(records=tuple(records), evidence=evidence.model_copy(update={"leaves": tuple(leaves)}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"final_state_root": digest("another")}, "do not lead from the first state to the last"),
        ({"steps": 28}, "do not lead from the first state to the last"),
        ({"windows": ()}, "nothing shows that the steps were done"),
        ({"guarantee": "It is all true."}, "another guarantee than bitwise gives"),
        ({"attempts": ()}, "its attempt is not among those named"),
        ({"settings_sha256": digest("others")}, "recipe.lock names other values than the certificate: settings"),
        ({"payment": TRUE.predicate().payment.model_copy(update={"lines": ()})}, "do not add up"),
        (_window(records=tuple(TRUE.records()[:-1])), "are not those that were committed"),
        (_window(evidence=TRUE.evidence().model_copy(update={"drawn": (0,)})), "but the coordinator says segment 0"),
        (
            _window(evidence=TRUE.evidence().model_copy(update={"ends_job": False})),
            "not said rightly whether the job ends",
        ),
        (
            _window(evidence=TRUE.evidence().model_copy(update={"audits": ()})),
            "No verifier is named that made the files",
        ),
        (_with_record(2, state_root=digest("x")), f"segment 2 is not signed by {NODE.address}"),
        (_with_record(2, state_root=digest("x")), "segment 3 does not continue segment 2"),
        (_with_record(2, job_id="job_2"), "the record of segment 2 is of another job"),
        (_with_record(2, micro_root=digest("x")), "its records give the root"),
    ],
)
def test_a_signed_lie_that_does_not_fit_is_named(model: Path, changes: dict[str, Any], sentence: str) -> None:
    put(model, signed(TRUE.statement(**changes)))

    assert any(sentence in problem for problem in problems(model))


# Files


@pytest.mark.parametrize("name", sorted(TRUE.files))
def test_a_changed_file_is_named(model: Path, name: str) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])

    assert any(problem.startswith(f"{name} is not the file") for problem in problems(model))


@pytest.mark.parametrize("name", sorted(TRUE.files))
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()

    assert problems(model)[0] == f"{name} is missing: the certificate names it."


def test_a_further_file_is_named(model: Path) -> None:
    (model / "more").mkdir()
    (model / "more" / "weights.bin").write_bytes(b"x")
    (model / ".gitattributes").write_bytes(b"x")

    assert problems(model) == ["more/weights.bin is in the folder, but the certificate does not name it."]


def test_the_certificate_of_another_job_does_not_fit(model: Path) -> None:
    other = Certified("job_2", {**TRUE.files, "model.safetensors": b"another model"})
    put(model, signed(other.statement()))

    assert problems(model) == [
        f"What {CARD} says of how it came to be is not what the certificate says.",
        "model.safetensors is not the file that was certified.",
    ]


def test_a_lock_of_other_values_is_named(tmp_path: Path) -> None:
    lock = json.loads(TRUE.files["recipe.lock"]) | {"seed": 8, "recipe": "other"}
    folder = Certified(files={**TRUE.files, "recipe.lock": json.dumps(lock).encode()}).write(tmp_path / "model")

    assert problems(folder) == ["recipe.lock names other values than the certificate: recipe, seed."]


def test_a_folder_without_a_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(gm.NotFound, match=r"no certificate\.json"):
        verify(tmp_path, Trusted())


# The model card


def test_every_part_of_the_card_counts(model: Path) -> None:
    card = (model / CARD).read_bytes()
    start = card.index(MARKER)

    for at in (0, start - 1, start, start + 5, start + len(MARKER), len(card) - 1):
        (model / CARD).write_bytes(card[:at] + bytes([card[at] ^ 1]) + card[at + 1 :])
        assert any(CARD in problem for problem in problems(model)), at
    (model / CARD).write_bytes(card + b"It is the best model.\n")
    assert any("how it came to be is not what" in problem for problem in problems(model))


def test_the_card_without_its_story_is_as_the_trainer_made_it(model: Path) -> None:
    (model / CARD).write_bytes(TRUE.files[CARD])

    assert problems(model) == []


def test_a_trainers_card_with_our_marker_in_it_stays_whole(tmp_path: Path) -> None:
    files = {**TRUE.files, CARD: b"# A model" + MARKER + b"It is the best model.\n"}
    folder = Certified(files=files).write(tmp_path / "model")

    assert problems(folder) == []
    attach(folder, (folder / FILE).read_bytes())
    assert problems(folder) == []


def test_a_strangers_name_does_nothing_in_the_card() -> None:
    hostile = Certified(provider_name="x](http://a.example)<script>\n# Best | `model` \x1b[2J")

    told = story(hostile.predicate()).decode()

    assert "xhttp://a.examplescript" in told
    assert not any(
        sign in told.split("How it came to be")[1].split("Checks")[0] for sign in ("<", "](", "# Best", "\x1b")
    )


def test_a_card_tells_data_machines_checks_payment_and_what_is_open(model: Path) -> None:
    told = (model / CARD).read_text()

    for words in (
        digest("data"),
        "willow (CPU), steps 0 to 24, finished",
        "of 6 segments run again by oak, and matched",
        "0.0001 USD on chain 31337",
        "**Not verified**: Names and devices",
    ):
        assert words in told


# The command, and bringing it home


def test_the_command_ends_with_1_if_anything_does_not_match(model: Path, cli: Callable[..., Any]) -> None:
    assert cli("verify", model).code == 0
    put(model, GOOD[:-9] + (b"y" if GOOD[-9:-8] == b"x" else b"x") + GOOD[-8:])
    ran = cli("verify", model, "--json")

    said = json.loads(ran.out)
    assert (ran.code, said["ok"], said["findings"][0]["mark"]) == (1, False, "wrong")
    assert cli("verify", model).out.startswith("✗ ")
    assert cli("verify", model.parent).code == 4


def test_a_pulled_model_comes_with_its_certificate(
    fake: FakeCoordinator, cli: Callable[..., Any], mails: Path, tmp_path: Path
) -> None:
    job = gm.train("text-sorter", data=mails, budget="0.50")
    fake.finish(job.id, files=TRUE.files, scorecard={})
    assert "no certificate yet" in cli("pull", job.id, tmp_path / "early").err
    fake.certificates[job.id] = GOOD

    ran = cli("pull", job.id, tmp_path / "model", "--json")

    assert FILE in json.loads(ran.out)["files"]
    assert cli("verify", tmp_path / "model").code == 0
    assert job.certificate() == GOOD


def test_a_pull_waits_for_the_signatures_but_not_for_ever(
    fake: FakeCoordinator, cli: Any, mails: Path, tmp_path: Path
) -> None:
    job = gm.train("text-sorter", data=mails, budget="0.50")
    fake.finish(job.id, files=TRUE.files, scorecard={})
    fake.certificates[job.id] = b""  # being signed
    before = fake.now_s

    folder = job.download(tmp_path / "model")

    assert 45 <= fake.now_s - before <= 60
    assert sorted(path.name for path in folder.iterdir()) == sorted(TRUE.files)
