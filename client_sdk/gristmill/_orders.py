"""What was ordered from this machine: one small file per job, so that a job can be checked and paid after a restart."""

import json
import os
from pathlib import Path

from pydantic import ValidationError

from gristmill_protocol.api import InfoView
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.jobs import JobSpec, Message, Quote


class OrderRecord(Message):
    """The terms a renter agreed to; later signatures are held against them."""

    url: str
    spec: JobSpec
    quote: Quote
    info: InfoView  # which Ledger and coordinator the order was signed for


class Orders:
    """The records in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, job_id: str, record: OrderRecord) -> None:
        """Write a record; whole or not at all."""
        path = self._path(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(record.model_dump_json(indent=1))
        os.replace(partial, path)

    def load(self, job_id: str) -> OrderRecord | None:
        """The record, or None if the job was ordered elsewhere.

        Raises:
            BadRequest: the file is damaged.
        """
        path = self._path(job_id)
        try:
            return OrderRecord.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except (ValidationError, json.JSONDecodeError) as err:
            raise BadRequest(f"The record of the order at {path} is damaged.", todo="Restore or remove it.") from err

    def _path(self, job_id: str) -> Path:
        if not job_id.replace("_", "").isalnum():
            raise BadRequest(f"{job_id!r} is no job id.", todo="`gristmill jobs` lists yours.")
        return self._folder / f"{job_id}.json"
