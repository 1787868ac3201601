"""Images of the docker sandbox: the trainer's own, and the one that a cheat doctors."""

import io
import tarfile
from importlib.metadata import version
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

from gristmill_localnet import cheating_trainer
from gristmill_localnet.net import Sandbox
from gristmill_protocol.errors import MissingPart

DOCTORED_PROGRAM = "/opt/cheat.py"


def trainer_image(sandbox: Sandbox) -> str:
    """The id of the trainer's image on this machine's Docker engine; "" for the process sandbox.

    Raises:
        MissingPart: no engine answers, or the image has not been built.
    """
    if sandbox == "process":
        return ""
    tag = f"gristmill-trainer:{version('gristmill')}"
    try:
        return str(docker.from_env().images.get(tag).id)
    except ImageNotFound as err:
        raise MissingPart(
            f"The image {tag} has not been built.", effect="Nothing was started.", todo="Run `make image`."
        ) from err
    except DockerException as err:
        raise MissingPart(
            "No Docker engine answers.",
            effect="Nothing was started.",
            todo="Start Docker, or leave out --sandbox docker (SANDBOX=docker).",
        ) from err


def image_at_hand() -> str:
    """The id of the trainer's image, for nodes with containers that may join; "": this machine has none."""
    try:
        return trainer_image("docker")
    except MissingPart:
        return ""


def doctored_image(image: str) -> str:
    """The id of an image like this one, with the cheat's program in it: what a cheat does on its own machine."""
    program = Path(cheating_trainer.__file__).read_bytes()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in (
            ("Dockerfile", f"FROM {image}\nCOPY cheat.py {DOCTORED_PROGRAM}\n".encode()),
            ("cheat.py", program),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    context.seek(0)
    built, _ = docker.from_env().images.build(fileobj=context, custom_context=True)
    return str(built.id)
