"""Where the image that jobs run in is: on this machine, in its registry, or nowhere."""

from typing import Any

from docker.errors import APIError, ImageNotFound
from docker.errors import NotFound as NotInRegistry

from gristmill_protocol.errors import NotFound, Unavailable

_EFFECT = "No job can run."


def is_here(client: Any, image: str) -> bool:
    """Whether this engine holds the image; if not, its registry does.

    Args:
        client: a docker client.
        image: by its digest, as in NodeConfig.
    Raises:
        NotFound: nobody has it.
        Unavailable: its registry does not say.
    """
    try:
        client.images.get(image)
    except ImageNotFound:
        _require_in_registry(client, image)
        return False
    return True


def _require_in_registry(client: Any, image: str) -> None:
    if "@" not in image:
        raise NotFound(
            f"The image {image} is not on this machine, and a bare digest names no registry.",
            effect=_EFFECT,
            todo="Set image to name@sha256:..., as the coordinator's operator tells you, or docker load it.",
        )
    try:
        client.images.get_registry_data(image)
    except NotInRegistry as err:
        raise NotFound(
            f"Its registry has no image {image}: the name or the digest is wrong.",
            effect=_EFFECT,
            todo="Set image to what the coordinator uses now: curl COORDINATOR_URL/v1/info names it.",
        ) from err
    except APIError as err:
        raise Unavailable(
            f"The image {image} cannot be fetched: {err.explanation or err}.",
            effect=_EFFECT,
            todo=f"Check name and digest, and that this machine reaches the registry: docker pull {image}",
        ) from err
