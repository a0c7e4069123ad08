"""Where the names of servers lead, and which of these addresses nothing of ours calls for a stranger."""
import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# At which clouds tell a machine its own secrets, beside the link-local ones: Alibaba's, Oracle's, Azure's,
# Amazon's and Google's.
METADATA = frozenset(map(ipaddress.ip_address, (
    "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")))
_EMBEDDING = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b::/96")))  # IPv4 in the last four bytes


def looked_up(host: str) -> tuple[Address, ...]:
    """The addresses of a host, whatever spelling of one it is; none where it cannot be found."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(ipaddress.ip_address(each[4][0].partition("%")[0]) for each in found)


def secretive(address: Address) -> str:
    """Why an address is not called, as the end of a sentence about its host; empty where it may be."""
    meant = _meant(address)
    if any(each.is_link_local or each in METADATA for each in meant):
        return "is a link-local address or one of a cloud's own, where machines keep their secrets"
    if any(each.is_multicast or each.is_unspecified or each.is_reserved and each.version == 4
           for each in meant):
        return "is the address of no single machine"
    return ""


def _meant(address: Address) -> list[Address]:
    """An address, and those of IPv4 that routers and systems make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _EMBEDDING) and not address.is_loopback:
        embedded.append(ipaddress.IPv4Address(address.packed[-4:]))
    return [address, *(each for each in embedded if each is not None)]
