import { closeSync } from 'node:fs';
import { type How, SAVES, type Save } from './saves.ts';

/** An editor in a process of its own: it saves once for each message, so many microseconds after it said so. */

export type Order = { how: How; path: string; text: string; afterUs: number };

process.on('message', ({ how, path, text, afterUs }: Order) => {
  const { open, save }: Save = SAVES[how];
  const descriptor = open?.(path) ?? -1;
  process.send?.('ready');
  const end = process.hrtime.bigint() + BigInt(afterUs) * 1_000n;
  while (process.hrtime.bigint() < end);
  save(path, text, descriptor);
  if (descriptor >= 0) closeSync(descriptor);
  process.send?.('saved');
});
process.on('disconnect', () => process.exit(0));
