// server.js PORT UPSTREAM: an HTTP server that asks a slow one for each request.
const http = require('http');
const agent = new http.Agent({ keepAlive: true });
http.createServer((request, response) => {
  http.get({ host: '127.0.0.1', port: process.argv[3], path: '/10', agent }, (from) => {
    from.resume();
    from.on('end', () => response.end('ok\n'));
  }).on('error', () => { response.statusCode = 502; response.end(); });
}).listen(+process.argv[2], '127.0.0.1');
