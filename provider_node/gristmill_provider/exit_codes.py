"""Every way a node ends, numbered, so that its owner can look it up; docs/providers.md explains each."""

from enum import IntEnum


class ExitCode(IntEnum):
    STOPPED = 0  # its owner asked it to leave, and it left in order
    INTERNAL = 1  # a fault of ours
    USAGE = 2  # the command line or the configuration is wrong
    KEY = 10  # the key cannot be read or opened
    DEVICE = 11  # no graphics card to offer, and the CPU is not allowed
    SANDBOX = 12  # the Docker engine, the image or the container toolkit is missing or too old
    PROBE = 13  # the training program does not run on this machine
    REFUSED = 20  # the coordinator does not take this node
    IN_USE = 21  # another node runs from the same state folder
