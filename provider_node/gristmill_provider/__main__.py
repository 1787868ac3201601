"""gristmill-node, wherever it is started from."""

from gristmill_protocol.entry import start


def main() -> None:
    start("gristmill_provider.cli", extra="provider")


if __name__ == "__main__":
    main()
