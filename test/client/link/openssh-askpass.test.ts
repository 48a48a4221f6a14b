import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type AskpassDeps, openAskpass } from '../../../src/client/link/openssh-askpass.ts';
import { until } from '../../fixtures/server.ts';

/** The program by which ssh asks, run as ssh runs it. */

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const ending of cleanups.splice(0).reverse()) ending();
});

const deskWith = async (
  deps: Partial<AskpassDeps> = {},
  home = mkdtempSync(join(tmpdir(), 'khlone-ask-')),
) => {
  cleanups.push(() => rmSync(home, { recursive: true, force: true }));
  const asked: { text: string; secret: boolean }[] = [];
  const desk = await openAskpass(home, {
    asker: {
      ask: async (question) => {
        asked.push(question);
        return 'an answer';
      },
    },
    ...{ hold: (work) => work(), notice: () => {}, namesHosts: true, onFault: () => {}, ...deps },
  });
  cleanups.push(desk.close);
  const program = desk.env.SSH_ASKPASS ?? '';
  const ask = (text: string, kind = '') => {
    const env = { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--no-such-option', SSH_ASKPASS_PROMPT: kind };
    const done = Promise.withResolvers<{ code: number; said: string }>();
    const child = execFile(program, [text], { env, timeout: 10_000 }, (error, said) =>
      done.resolve({ code: error ? Number(error.code ?? 1) : 0, said }),
    );
    return { child, ended: done.promise };
  };
  return { desk, home, asked, ask, program };
};

describe('the program by which ssh asks', () => {
  it('brings the question as plain lines and prints the answer, hidden or seen as fits it', async () => {
    const { asked, ask } = await deskWith();
    expect(await ask("x's password: ").ended).toEqual({ code: 0, said: 'an answer\n' });
    expect(await ask('-n \x1b[2J\x07\u202eWhich? ').ended).toEqual({ code: 0, said: 'an answer\n' });
    const lines = Array.from({ length: 500 }, (_, at) => `line ${at}`).join('\n');
    await ask(`${lines}\nSure (yes/no/[fingerprint])? `).ended;
    expect(asked[0]).toEqual({ text: "x's password: ", secret: true });
    expect(asked[1]?.text).toMatch(/^-n .?Which\? $/u);
    expect(asked[1]?.text).not.toMatch(/[\x1b\x07\u202e]/u);
    expect(asked[2]?.text.split('\n').length).toBeLessThan(20);
  });

  it('asks about a key’s use with yes or no, and tells of a touch for as long as ssh waits', async () => {
    const notices: string[] = [];
    let holds = 0;
    const { asked, ask } = await deskWith({
      notice: (line) => notices.push(line),
      hold: async (work) => {
        holds += 1;
        return work().finally(() => {
          holds -= 1;
        });
      },
    });
    // "an answer" is no yes.
    expect((await ask('Add key to agent?', 'confirm').ended).code).toBe(1);
    expect(asked).toEqual([{ text: 'Add key to agent? (yes/no) ', secret: false }]);
    const touch = ask('Confirm user presence for key K', 'none');
    await until('the notice', () => notices.length === 1 && holds === 1);
    touch.child.kill();
    await until('the end of the wait', () => holds === 0);
    expect(notices).toEqual(['Confirm user presence for key K']);
  });

  it('is answered from memory by the next ssh only where a question says which host asks it', async () => {
    for (const namesHosts of [true, false]) {
      const { asked, ask, desk } = await deskWith({ namesHosts });
      await ask("me@target's password: ").ended;
      desk.nextChild();
      // The words of a password of the target, which an older ssh shows as they come from a jump host.
      await ask("me@target's password: ").ended;
      expect(asked.length).toBe(namesHosts ? 1 : 2);
    }
  });

  it('gives only the first line of an answer, and none to a person who left or after too many questions', async () => {
    let faults = 0;
    const asker = {
      ask: async ({ text }: { text: string }) => (text.startsWith('gone') ? fail() : 'one\ntwo'),
    };
    const fail = (): never => {
      throw new Error('gone');
    };
    const { ask, desk } = await deskWith({
      asker,
      onFault: () => {
        faults += 1;
      },
    });
    expect((await ask('first ').ended).said).toBe('one\n');
    expect(await ask('gone ').ended).toEqual({ code: 1, said: '' });
    expect(faults).toBe(1);
    const many = await Promise.all(Array.from({ length: 45 }, (_, at) => ask(`question ${at} `).ended));
    expect(many.filter(({ code }) => code === 1).length).toBeGreaterThanOrEqual(5);
    desk.close();
    expect((await ask('late').ended).code).not.toBe(0);
  });

  it('lies where nobody else can come, also under a long home, and leaves nothing', async () => {
    const long = join(mkdtempSync(join(tmpdir(), 'khlone-ask-')), 'a'.repeat(90));
    cleanups.push(() => rmSync(dirname(long), { recursive: true, force: true }));
    for (const home of [undefined, long]) {
      const { desk, ask, program, home: own } = await deskWith({}, home);
      const folder = dirname(program);
      mkdirSync(join(own, 'run/ask-of-a-killed-hub'));
      utimesSync(join(own, 'run/ask-of-a-killed-hub'), 1, 1);
      (await deskWith({}, own)).desk.close();
      expect(statSync(folder).mode & 0o777).toBe(0o700);
      expect((await ask('a? ').ended).said).toBe('an answer\n');
      desk.close();
      expect(readdirSync(join(own, 'run'))).toEqual([]);
      expect(() => statSync(folder)).toThrow();
    }
  });
});
