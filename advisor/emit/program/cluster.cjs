'use strict';

const cluster = require('node:cluster');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const PROCESSES = @PROCESSES@;
// The CPUs of each process; empty: not pinned.
const SEATS = @SEATS@;
const ENVIRONMENT = {
  BERTH_PROCESSES: '@PROCESSES@',
  BERTH_IN_FLIGHT: '@IN_FLIGHT@', // in each worker; 0: not planned
  UV_THREADPOOL_SIZE: '@POOL@', // of each worker, for files, names, crypto and zlib
};

function main(program) {
  if (!program) {
    console.error(`usage: node ${path.basename(__filename)} PROGRAM.js [ARG ...]`);
    process.exit(2);
  }
  let ending = false;
  let status = 0;
  const fork = (n) => {
    const worker = cluster.fork({ ...ENVIRONMENT, BERTH_WORKER: String(n) });
    const began = Date.now();
    worker.on('exit', (code, signal) => {
      if (ending || (code === 0 && !signal)) return;
      console.error(`worker ${n} ended with ${signal || code}`);
      if (Date.now() - began > 1000) return fork(n); // on the same seat
      status = code || 1; // it cannot start
      end();
    });
  };
  const end = () => {
    ending = true;
    for (const worker of Object.values(cluster.workers)) worker.kill();
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, end);
  process.on('exit', () => { process.exitCode = process.exitCode || status; });
  for (let n = 0; n < PROCESSES; n++) fork(n);
}

if (cluster.isPrimary) {
  main(process.argv[2]);
} else {
  if (SEATS.length > 0) {
    // Node sets no affinity itself. All threads that it has made so far move.
    execFileSync('taskset', ['-a', '-c', '-p', SEATS[Number(process.env.BERTH_WORKER)], String(process.pid)], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  require(path.resolve(process.argv[2]));
}
