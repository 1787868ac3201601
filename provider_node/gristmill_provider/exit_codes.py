"""Every way a node ends, numbered, so that its owner can look it up; docs/providers.md explains each."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from gristmill_protocol.errors import GristmillError


class ExitCode(IntEnum):
    STOPPED = 0  # its owner asked it to leave, and it left in order
    INTERNAL = 1  # a fault of ours
    USAGE = 2  # the command line or the configuration is wrong
    KEY = 10  # the key cannot be read or opened
    DEVICE = 11  # no graphics card to offer, and the CPU is not allowed
    SANDBOX = 12  # the Docker engine, the image or the container toolkit is missing or too old
    PROBE = 13  # the training program does not run on this machine
    UNFIT = 14  # doctor found what keeps this machine from working
    SERVICE = 15  # systemd is missing, or refused
    DISK = 16  # the disk of state_dir is full
    REFUSED = 20  # the coordinator does not take this node
    IN_USE = 21  # another node runs from the same state folder
    COORDINATOR = 22  # the coordinator does not answer, or is none
    JOURNAL = 30  # there is no journal that could be read
    CHAIN = 31  # the chain's node does not answer, or it is another chain
    UNSETTLED = 32  # some of what is owed could not be paid
    UNFUNDED = 33  # the money for the bond, or for gas, is not there yet
    INTERRUPTED = 130  # its owner broke off setting it up; the next call goes on


# What trying again does not mend: a service that ends so stays down until its owner has acted.
FINAL = (ExitCode.USAGE, ExitCode.KEY, ExitCode.REFUSED)


class NodeEnded(Exception):
    """The node cannot start or go on.

    Args:
        code: what its process ends with.
        reason: what happened, what it means, what to do.
    """

    def __init__(self, code: ExitCode, reason: GristmillError) -> None:
        super().__init__(str(reason))
        self.code = code
        self.reason = reason


@contextmanager
def ends_as(code: ExitCode, errors: type[GristmillError] = GristmillError) -> Iterator[None]:
    """Give the errors of a step their exit code."""
    try:
        yield
    except errors as err:
        raise NodeEnded(code, err) from err
