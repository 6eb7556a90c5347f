"""How long a record takes across a small network on loopback: honest, half lying, a third dead.

Run: python -m tests.benchmarks.dht [nodes] [records]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.zonefiles.dht.network import Network, lie, record, silence


async def measure(nodes: int, records: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        net = Network(Path(folder))
        began = time.perf_counter()
        await net.many(nodes)
        print(f"{nodes} nodes joined in {time.perf_counter() - began:.2f} s")
        wanted = [record(n) for n in range(records)]
        began = time.perf_counter()
        copies = [await net.nodes[n % nodes].publish(*wanted[n]) for n in range(records)]
        each = (time.perf_counter() - began) / records
        print(f"published: {each * 1000:.1f} ms each, {statistics.mean(copies):.1f} copies")
        reader = await net.node()
        await fetch_all(reader, wanted, "all honest")
        for liar in net.nodes[1:nodes:2]:
            lie(liar)
        await fetch_all(await net.node(), wanted, "half of them lying")
        for dead in net.nodes[2:nodes:3]:
            silence(dead)
        await fetch_all(await net.node(), wanted, "and a third dead (reply timeout 0.1 s)")
        await net.stop()


async def fetch_all(reader, wanted, what: str) -> None:
    times, right = [], 0
    for digest, data in wanted:
        began = time.perf_counter()
        found = await reader.fetch(digest, 5.0)
        times.append((time.perf_counter() - began) * 1000)
        right += found.data == data
    times.sort()
    median, late = times[len(times) // 2], times[len(times) * 95 // 100]
    print(f"{what}: {right} of {len(wanted)} right, median {median:.2f} ms, 95th {late:.1f} ms")


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:3]]
    asyncio.run(measure(*(sizes + [30, 300][len(sizes) :])))
