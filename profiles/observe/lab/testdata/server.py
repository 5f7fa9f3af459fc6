"""server.py PORT UPSTREAM MS: an HTTP server of one event loop that asks a
server, which takes MS to answer, for each request."""
import asyncio
import sys

port, upstream, ms = (int(a) for a in sys.argv[1:])
free = []


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].split()
            if not free:
                free.append(await asyncio.open_connection("127.0.0.1", upstream))
            r, w = free.pop()
            w.write(b"%d\n" % ms)
            body = await r.readline()
            free.append((r, w))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(main())
