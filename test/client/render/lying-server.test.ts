import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Caller } from '../../../src/client/caller.ts';
import { createHostKeyCheck } from '../../../src/client/link/ssh-host-key.ts';
import type { Place } from '../../../src/client/place.ts';
import { createLiveLines } from '../../../src/client/render/live-lines.ts';
import { createProgress } from '../../../src/client/render/progress.ts';
import { receiptLines } from '../../../src/client/render/receipt.ts';
import { refusedWords } from '../../../src/client/render/refused.ts';
import { crewLines, type ZoneStatus, zoneLines } from '../../../src/client/render/status.ts';
import { tellError } from '../../../src/client/render/tell-error.ts';
import { CALLS, HOLDS, Item, TaskView, ZoneView } from '../../../src/protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../../src/protocol/error.ts';
import type { BrainEvent } from '../../../src/protocol/event.ts';
import { VERBOSITIES } from '../../../src/protocol/event-lines.ts';
import { jsonLine } from '../../../src/protocol/sanitize.ts';
import { createTranscript } from '../../../src/protocol/transcript.ts';

/** A server that puts what a terminal obeys into every string it may send: nothing of it is printed. */

const EVIL = '\u001b]52;c;ZXZpbA==\u0007\u001b[2Jx\u009b31m\u0085\u0000\r\u0008\u202ey';
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
const STYLE = { utf8: true, colour: false };

const USAGE = { input: 1, output: 1, cacheRead: 1, cacheWrite: 1 };
const TASK = {
  ...{
    id: 'task-0123456789',
    zone: 'z-0123456789abcdef',
    clone: 'mechanic.1',
    kind: 'act',
    title: 'a title',
  },
  ...{ session: 's-1', state: 'held', prioritized: false, hold: 'rate', message: 'm', hint: 'h', error: 'e' },
  ...{ attempt: 1, usage: USAGE, createdMs: 1 },
};
const CLONE = {
  ...{ name: 'mechanic.1', role: 'mechanic', brain: 'claude:haiku', state: 'waiting', task: TASK.id },
  ...{ title: 't', progress: { done: 1, total: 2 }, queued: 1, note: 'n' },
};
const ZONE = {
  ...{ id: TASK.zone, address: 'o/r@b', branch: 'b', mode: 'ssh', path: '/p', state: 'ready', epoch: 'e' },
  ...{ seq: 1, paused: false, crew: [CLONE], attention: [TASK], costUsd: 0, tokens: 1 },
};
const PLACE = { epoch: 'e', seq: 1, atMs: 1, task: TASK.id, clone: 'mechanic.1', session: 's-1' };
const EVENTS: BrainEvent[] = [
  { type: 'session', id: 'i' },
  { type: 'text', text: 't', final: true },
  { type: 'text', text: 't\n', final: false },
  { type: 'thinking', text: 't' },
  { type: 'tool.start', id: 'i', name: 'n', input: 'i' },
  { type: 'tool.end', id: 'i', ok: false, output: 'o', denied: false },
  { type: 'tool.end', id: 'i', ok: false, output: 'o', denied: true },
  { type: 'plan', done: 1, total: 2, step: 's' },
  { type: 'permission', id: 'i', tool: 't', input: 'i' },
  { type: 'retry', attempt: 1, status: 500 },
  { type: 'usage', usage: USAGE },
  { type: 'warn', text: 't' },
  { type: 'turn.end', reason: 'error', text: 't', fault: { kind: 'auth', message: 'm' }, denials: ['d'] },
  { type: 'raw', kind: 'k' },
];
const STATE = { type: 'task', state: 'held', kind: 'act', title: 't', hold: 'rate', message: 'm', hint: 'h' };
const ITEMS = [...EVENTS, STATE, { type: 'note', text: 't' }].map((event) => ({ ...PLACE, event }));

/** The words that decide what is printed; the rest of the strings is the server's. */
const KEPT = new Set(['type', 'mode', 'kind', 'state', 'reason']);

const withEvil = <T>(value: T): T => {
  const change = (key: string, one: unknown): unknown => {
    if (typeof one === 'string') return KEPT.has(key) ? one : `${one}${EVIL}`;
    if (Array.isArray(one)) return one.map((item) => change('', item));
    if (one === null || typeof one !== 'object') return one;
    return Object.fromEntries(Object.entries(one).map(([name, inner]) => [name, change(name, inner)]));
  };
  return change('', value) as T;
};

const expectHarmless = (lines: readonly string[]): void => {
  expect(lines.join('\n')).not.toMatch(OBEYED);
  expect(lines.join('').length).toBeGreaterThan(0);
};

describe('the shapes of answers', () => {
  test('let in what a server of ours sends', () => {
    expect(TaskView.safeParse(TASK).success).toBe(true);
    expect(ZoneView.safeParse(ZONE).success).toBe(true);
    for (const item of ITEMS) expect(Item.safeParse(item).success).toBe(true);
    for (const hold of HOLDS) expect(TaskView.safeParse({ ...TASK, hold }).success).toBe(true);
  });

  test('let no word in that is printed as it is', () => {
    for (const key of ['id', 'zone', 'clone', 'session', 'hold'] as const)
      expect(TaskView.safeParse({ ...TASK, [key]: `${TASK[key]}\u001b[2J` }).success).toBe(false);
    for (const key of ['name', 'brain', 'task'] as const)
      expect(
        ZoneView.safeParse({ ...ZONE, crew: [{ ...CLONE, [key]: `${CLONE[key]}\u001b` }] }).success,
      ).toBe(false);
    for (const key of ['task', 'clone', 'session'] as const)
      expect(Item.safeParse({ ...ITEMS[0], [key]: `${PLACE[key]}\u001b` }).success).toBe(false);
    const probe = CALLS['brain.probe'].answer;
    const answer = (name: string) => ({ brains: [{ name, ready: true }], view: { why: '' }, tmux: {} });
    expect(probe.safeParse(answer('claude')).success).toBe(true);
    expect(probe.safeParse(answer('cl\u009baude')).success).toBe(false);
  });

  test('let in no time that is none', () => {
    for (const atMs of [-1, 8.64e15 + 1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(Item.safeParse({ ...ITEMS[0], atMs }).success).toBe(false);
  });
});

describe('what is printed of a lying server', () => {
  const link: Omit<ZoneStatus, 'view'> = {
    ...{
      host: `box${EVIL}`,
      link: 'offline',
      ageMs: 60_000,
      offlineMs: 60_000,
      queuedHere: 1,
      queuedSinceMs: 1,
      cancelsHere: 1,
    },
    ...{ nextTryMs: 1, trouble: { message: EVIL, hint: EVIL }, heldHere: [] },
  };

  test('holds nothing that a terminal obeys in a status', () => {
    const status = { ...link, view: withEvil(ZONE) as ZoneView };
    for (const style of [STYLE, { utf8: false, colour: false }])
      for (const name of ['short', 'whole'] as const)
        expectHarmless([...zoneLines(status, style, 400, name), ...crewLines(status, style, 80)]);
  });

  test('holds nothing that a terminal obeys in the words of a refusal, nor in an error as JSON', () => {
    const refusal = { message: EVIL, hint: EVIL };
    expectHarmless([refusedWords(refusal, STYLE)]);
    const said: string[] = [];
    const caller = { argv: ['--json'], out: (text: string) => said.push(text) } as unknown as Caller;
    tellError(caller, new KhloneError('conflict', EVIL, EVIL));
    expectHarmless(said);
    expect(JSON.parse(said.join(''))).toEqual({ code: 'conflict', ...refusal });
  });

  test('is bounded however many tasks and clones it names', () => {
    const many = 20_000;
    const text = 'x'.repeat(60_000);
    for (const maker of [
      createTranscript(),
      createLiveLines({ verbosity: 'normal', style: STYLE, zone: '', titles: new Map() }),
    ]) {
      let told = 0;
      for (let n = 0; n < many; n += 1) {
        const event = { type: 'text', text, final: false } as const;
        told += maker.take({ ...PLACE, clone: `mechanic.${n}`, event } as Item).join('').length;
      }
      // All but what a thousand clones may have begun was told again, so it is not kept.
      expect(told).toBeGreaterThan((many - 1_001) * text.length);
    }
  });

  test('holds nothing that a terminal obeys in a transcript or while one watches', () => {
    const transcript = createTranscript();
    const items = ITEMS.map((item) => withEvil(item) as Item);
    expectHarmless([...items.flatMap((item) => transcript.take(item)), ...transcript.end()]);
    for (const [json, verbosity] of [
      ...VERBOSITIES.map((one) => [false, one] as const),
      [true, 'normal'] as const,
    ]) {
      const said: string[] = [];
      const push = (text: string): void => void said.push(text);
      const caller = { out: push, err: push } as unknown as Caller;
      const start = { after: 'start', lines: 0 } as const;
      const progress = createProgress(caller, { progress: true, json, verbosity }, start);
      for (const item of items) progress(item);
      expectHarmless(said);
    }
    for (const verbosity of VERBOSITIES) {
      const titles = new Map([[TASK.id, `t${EVIL}`]]);
      const live = createLiveLines({ verbosity, style: STYLE, zone: 'app@main', titles });
      expectHarmless(items.flatMap((item) => live.take(item)));
    }
  });

  test('holds nothing that a terminal obeys in a receipt', () => {
    const binding = { branch: `b${EVIL}`, host: `h${EVIL}`, address: `a${EVIL}` };
    const answer = {
      ...{ task: TASK as unknown as TaskView, enrolled: true, zoneMade: false, repeated: false },
      ...{ needsEnvironment: false, needsCode: true, notes: [EVIL] },
    };
    const given = { who: undefined, zone: undefined, prioritize: false, style: STYLE };
    const receipt = { type: 'accepted' as const, id: TASK.id, answer };
    expectHarmless(receiptLines({ binding } as unknown as Place, receipt, given));
  });

  test('as JSON is the same value, with nothing that a terminal obeys', () => {
    const line = jsonLine(withEvil(ZONE));
    expectHarmless([line]);
    expect(JSON.parse(line)).toEqual(withEvil(ZONE));
  });

  test('of a host key that is not verified yet is a plain word', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'khlone-host-key-'));
    const settings = {
      ...{ alias: 'box', hostname: 'box', port: 22, user: 'me', identityFiles: [], identityAgent: undefined },
      ...{ identitiesOnly: false, proxyCommand: undefined, proxyJump: [], hostKeyAlias: undefined },
      ...{ userKnownHosts: [join(folder, 'known_hosts')], globalKnownHosts: [], hashKnownHosts: false },
      certificateFiles: [],
    };
    const keyOf = (type: string): Buffer => {
      const word = Buffer.from(type, 'latin1');
      const size = Buffer.alloc(4);
      size.writeUInt32BE(word.length);
      return Buffer.concat([size, word, Buffer.from('key')]);
    };
    try {
      for (const key of [keyOf(`ssh-rsa${EVIL}`), keyOf('ssh-ed25519'), Buffer.from('x'), Buffer.alloc(0)]) {
        const check = await createHostKeyCheck(settings, folder);
        const asked: string[] = [];
        const ask = async ({ text }: { text: string }): Promise<string> => {
          asked.push(text);
          return 'no';
        };
        for (const asker of [{ ask }, undefined]) {
          const error = asKhloneError(await check.verify(key, asker).catch((thrown: unknown) => thrown));
          expect(error.code).toBe('host-key');
          expectHarmless([error.message, ...asked]);
        }
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
