"""A process with real doors on loopback and a small world behind them, for the tests with dig.

Prints the port (the same for UDP and TCP) and runs until its standard input closes.
"""

import asyncio
import logging
import sys
import threading

from twisted.internet import asyncioreactor

LOOP = asyncio.new_event_loop()
if sys.argv[1:] == ["uvloop"]:
    import uvloop

    LOOP = uvloop.new_event_loop()
asyncioreactor.install(LOOP)


def main() -> None:
    from twisted.internet import reactor

    from resolver.doors.listening import PortUnavailable
    from resolver.doors.tcp import open_tcp
    from resolver.doors.udp import open_udp
    from tests.resolver.fakes import World

    logging.basicConfig(level=logging.WARNING)
    world = World()
    world.zonefile("alice.id", '@ TXT "hello"\nwww A 192.0.2.1\nwww AAAA 2001:db8::1')
    world.name("swiftonsecurity.id", '{"name":{"formatted": "Taylor Swift"}}')
    world.name("big.id", bytes(range(32, 127)) * 400)
    world.name("slow.id", "over the network", lies="network")
    world.name("lost.id", "nowhere", lies="nowhere")
    for _ in range(20):
        udp = open_udp(reactor, "127.0.0.1", 0, world.resolver)
        try:
            open_tcp(reactor, "127.0.0.1", udp.port, world.resolver)
            break
        except PortUnavailable:  # somebody has this number for TCP
            udp.stop()
    print(udp.port, flush=True)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        reactor.callFromThread(reactor.stop)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    main()
