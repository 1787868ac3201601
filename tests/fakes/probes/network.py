"""Ways out by the network. A datagram that can be sent has left, whether or not anybody answers."""

import socket
from functools import partial
from pathlib import Path

from fakes.probes import PROBES, machine, probe

_TIMEOUT_S = 2

_DATAGRAMS = {
    "internet": ("192.0.2.1", 443),
    "internet_6": ("2001:db8::1", 443),
    "metadata": ("169.254.169.254", 80),
    "metadata_6": ("fd00:ec2::254", 80),
    "metadata_of_tasks": ("169.254.170.2", 80),
    "private_network": ("10.0.0.1", 80),
    "home_router": ("192.168.1.1", 80),
    "multicast": ("224.0.0.251", 5353),
    "neighbours_6": ("ff02::1%1", 5353),
    "name_server": ("8.8.8.8", 53),
}


def _send(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    to = socket.getaddrinfo(address, port, family, socket.SOCK_DGRAM)[0][4]
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        out.sendto(b"probe", to)
    return f"a datagram to {address}"


PROBES |= {f"reach_{name}": partial(_send, *to) for name, to in _DATAGRAMS.items()}


def _connect(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=_TIMEOUT_S):
        return f"{host}:{port}"


@probe
def service_of_the_host() -> str:
    return _connect(machine()["gateway"], machine()["port"])


@probe
def loopback_of_the_host() -> str:
    return _connect("127.0.0.1", machine()["port"])


@probe
def container_of_another() -> str:
    return _connect(machine()["neighbour"], 7000)


@probe
def hidden_socket_of_the_host() -> str:
    """Abstract names are not in the file system; they end with the network namespace."""
    with socket.socket(socket.AF_UNIX) as out:
        out.connect("\0" + machine()["abstract"])
    return "connected"


@probe
def a_name_is_looked_up() -> str:
    return str(socket.getaddrinfo("gristmill-probe.example.com", 443)[0][4][0])


@probe
def name_servers() -> str | None:
    """A name server that can be asked takes secrets out, a label at a time."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    listed = [line.split()[1] for line in lines if line.startswith("nameserver")]
    reached = []
    for server in listed:
        try:
            _send(server, 53)
        except OSError:
            continue
        reached.append(server)
    return ", ".join(reached) or None


@probe
def interfaces() -> str | None:
    return ", ".join(name for _, name in socket.if_nameindex() if name != "lo") or None


@probe
def raw_packets() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "a raw socket"


@probe
def packets_of_others() -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "a packet socket"
