"""many.py PORT N MS: N tasks of one event loop that each wait for a server."""
import asyncio
import sys

port, n, ms = (int(a) for a in sys.argv[1:])


async def ask():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(b"%d\n" % ms)
        await reader.readline()


async def main():
    tasks = []
    for i in range(n):
        tasks.append(asyncio.create_task(ask()))
        if i % 50 == 0:
            await asyncio.sleep(ms / 1000 * 50 / n)  # they come evenly
    await asyncio.gather(*tasks)


asyncio.run(main())
