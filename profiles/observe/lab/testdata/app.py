"""A WSGI application that asks a slow server for each request."""
import http.client
import os


def application(environ, start):
    server = http.client.HTTPConnection("127.0.0.1", int(os.environ["UPSTREAM"]))
    server.request("GET", "/30")
    body = server.getresponse().read()
    server.close()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
