import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { exchangeMs } from './floor.ts';
import { makePlace, timeCommand } from './place.ts';
import { against, median, type Row } from './row.ts';

/** The words that only read, warm: by the node command in CPU time, and in a shell's own form over the hub's socket. */

const ROUNDS = 25;
const WORDS = ['status', 'crew', 'list'];
const BIN = resolve(import.meta.dirname, '../bin/khlone');

const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;

export const benchWords = async (): Promise<Row[]> => {
  const place = makePlace();
  try {
    place.khlone('act', '--who', '@sh', '--await', 'true');
    const options = { cwd: place.repository, env: place.env };
    const raw = (word: string): Promise<number> => {
      const nonce = randomBytes(12).toString('hex');
      const fields = ['khlone/1', nonce, place.repository, '80', '0', '1', word];
      return exchangeMs(`${place.home}/run/hub.sock`, `${fields.join('\0')}\0`);
    };
    const bare: { wallMs: number; cpuMs: number }[] = [];
    const cpu = new Map<string, number[]>(WORDS.map((word) => [word, []]));
    const socket = new Map<string, number[]>(WORDS.map((word) => [word, []]));
    for (let round = 0; round < ROUNDS; round += 1) {
      bare.push(await timeCommand([process.execPath, '-e', '0'], options));
      for (const word of WORDS) {
        cpu.get(word)?.push((await timeCommand([process.execPath, BIN, word], options)).cpuMs);
        socket.get(word)?.push(await raw(word));
      }
    }
    const bareCpu = { name: 'node -e 0', value: mean(bare.map(({ cpuMs }) => cpuMs)) };
    const bareWall = { name: 'node -e 0', value: median(bare.map(({ wallMs }) => wallMs)) };
    return WORDS.flatMap((word) => [
      against(`${word} by the node command, CPU`, mean(cpu.get(word) ?? []), 'ms', bareCpu, 2),
      against(`${word} as zsh asks, by the socket`, median(socket.get(word) ?? []), 'ms', bareWall, 0.2),
    ]);
  } finally {
    place.end();
  }
};
