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
process.chdir('/');
process.umask(0o077);
await serveHub({
  home: homeOf(process.env),
  version: __KHLONE_VERSION__,
  build: __KHLONE_BUILD__,
  serverBundle: join(import.meta.dirname, 'khlone-server.mjs'),
});
process.exit(0);
