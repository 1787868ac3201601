"""What a coordinator says to anybody over HTTP: of itself, of its market, and what time it is there."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from pydantic import TypeAdapter, ValidationError

from gristmill_protocol.api import HealthView, InfoView, NodeTerms, OfferView
from gristmill_protocol.errors import GristmillError, Unavailable
from gristmill_provider.authority import read_authority

_TIMEOUT_S = 10
_OFFERS = TypeAdapter(list[OfferView])


@dataclass(frozen=True)
class Greeting:
    """A coordinator's answer.

    Args:
        behind_s: how far this machine's clock is behind the coordinator's, to the second; None: it did not say.
    """

    info: InfoView
    behind_s: float | None


def common_image(terms: NodeTerms) -> str:
    """The image that most recipes run in, which a node runs and no other; "": none is named."""
    images = list(terms.images.values())
    return max(sorted(images), key=images.count, default="")


class Front:
    """The HTTP side of one coordinator.

    Args:
        clock: this machine's, unix seconds.
    """

    def __init__(
        self,
        url: str,
        ca_file: Path | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._transport = transport
        self._clock = clock

    def greet(self) -> Greeting:
        """Raises:
        Unavailable: it cannot be reached, or is no coordinator; says why in words.
        BadSettings: the ca_file cannot be read.
        """
        answer = self._get("/v1/info")
        try:
            info = InfoView.model_validate_json(answer.content)
        except ValidationError as err:
            raise self._strange() from err
        stamp = answer.headers.get("date")
        behind_s = None if stamp is None else parsedate_to_datetime(stamp).timestamp() - self._clock()
        return Greeting(info, behind_s)

    def market(self) -> list[OfferView]:
        """Every offer, cheapest first.

        Raises:
            Unavailable, BadSettings: as greet().
        """
        answer = self._get("/v1/market")
        try:
            return _OFFERS.validate_json(answer.content)
        except ValidationError as err:
            raise self._strange() from err

    def waiting_jobs(self) -> int:
        """How many jobs wait for a machine.

        Raises:
            Unavailable, BadSettings: as greet().
        """
        answer = self._get("/v1/health")
        try:
            return HealthView.model_validate_json(answer.content).waiting_jobs
        except ValidationError as err:
            raise self._strange() from err

    def _get(self, path: str) -> httpx.Response:
        verify = read_authority(self._ca_file).verify
        try:
            with httpx.Client(timeout=_TIMEOUT_S, verify=verify, transport=self._transport) as http:
                return http.get(self._url.rstrip("/") + path).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as err:
            raise Unavailable(
                f"The coordinator at {self._url} does not answer: {_plain(err)}.",
                effect="This machine cannot offer itself there.",
                todo=_remedy(err),
            ) from err

    def _strange(self) -> GristmillError:
        return Unavailable(
            f"What answers at {self._url} is no Gristmill coordinator, or of another version.",
            effect="This machine cannot offer itself there.",
            todo="Check coordinator_url; else update: pip install --upgrade 'gristmill[provider]'.",
        )


def _plain(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0].rstrip(".")


def _remedy(err: Exception) -> str:
    said = str(err).lower()
    if "not yet valid" in said or "expired" in said:
        return "Check this machine's clock (timedatectl); if it is right, tell the coordinator's operator."
    if "certificate" in said or "ssl" in said:
        return "If its certificate is not from a public authority, name that authority's file in ca_file (--ca-file)."
    if "name or service" in said or "name resolution" in said or "nodename" in said:
        return "Check the address for typing errors, and that this machine resolves names."
    if isinstance(err, httpx.HTTPStatusError):
        return "Check that the address is the coordinator's own, without a path."
    return "Check the address, and that this machine may connect there: curl -v ADDRESS/v1/info."
