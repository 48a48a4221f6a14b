import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { homeOf } from '../protocol/home.ts';
import { serveHub } from './hub/serve.ts';

/** The hub's entry: one resident process per home, started on demand, harmless to kill. */

declare const __KHLONE_VERSION__: string;
declare const __KHLONE_BUILD__: string;

// As in the server: the space for young objects would grow with the code that passes through, and stay; and old ones
// are looked through sooner. With a link 81 MB instead of 89.
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--optimize-for-size');
// One function that the last compiler takes brings 5 MB of that compiler into memory. Uploads, commands and long answers
// took the same time without it: what the hub waits for is elsewhere.
setFlagsFromString('--no-opt');
process.chdir('/');
process.umask(0o077);
// The boot log lies on the disk that may be full: a line of it that is lost must not end the hub.
process.stderr.on('error', () => {});
await serveHub({
  home: homeOf(process.env),
  version: __KHLONE_VERSION__,
  build: __KHLONE_BUILD__,
  serverBundle: join(import.meta.dirname, 'khlone-server.mjs'),
});
process.exit(0);
