"""gristmill-coordinator, wherever it is started from."""

from gristmill_protocol.entry import start


def main() -> None:
    start("gristmill_coordinator.cli", extra="coordinator")


if __name__ == "__main__":
    main()
