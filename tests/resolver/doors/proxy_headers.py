"""PROXY headers (version 2) as HAProxy and dnsdist write them; a resolver that sees who asks."""

import ipaddress
import struct

from resolver.dns.asker import Asker

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL = SIGNATURE + bytes.fromhex("20000000")


def proxied(client: str, *, transport: int = 1, command: int = 0x21, tlv: int = 0) -> bytes:
    """The header of a proxy that asks for ``client``, with so many octets of a TLV behind."""
    source = ipaddress.ip_address(client)
    here = b"\x01" * len(source.packed)
    body = source.packed + here + struct.pack("!HH", 54_321, 53)
    if tlv:
        body += struct.pack("!BH", 0xEA, tlv) + bytes(tlv)
    family = (1 if source.version == 4 else 2) << 4 | transport
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


class Hears:
    """A resolver that remembers who asked, and answers with that."""

    def __init__(self) -> None:
        self.askers: list[str] = []

    def ready(self, packet: bytes, limit: int, address: str) -> bytes | None:
        return None

    def begin(self, packet: bytes, limit: int, asker: Asker) -> bytes | None:
        if len(packet) < 12:
            return None
        self.askers.append(asker.address)
        return packet[:12] + asker.address.encode()
