import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ViewMode } from '../../src/brains/view.ts';
import { bwrapViews } from '../../src/brains/view-bwrap.ts';
import type { Owner } from '../../src/brains/view-tools.ts';
import { unshareViews } from '../../src/brains/view-unshare.ts';
import { ATTEMPTS } from './escape-corpus.ts';
import { asOwner, type Ground, makeGround, tryAll } from './escape-ground.ts';

/** Every way out of the corpus against every view that this machine offers, as root and as an ordinary user. */

const self: Owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
/** nobody: the bus and tmux want a user that has a name. */
const stranger: Owner = { uid: 65_534, gid: 65_534 };
const owners = self.uid === 0 ? [self, stranger] : [self];

/** A machine that allows no namespaces to this user has no view to try. */
const allows = (owner: Owner): boolean => {
  const root = owner.uid === 0 ? [] : ['--map-root-user'];
  const [program = '', ...rest] = asOwner(owner, [
    'unshare',
    ...root,
    '--mount',
    '--',
    'mount',
    '-t',
    'tmpfs',
    'x',
    '/mnt',
  ]);
  return spawnSync(program, rest).status === 0;
};

const MODES: ViewMode[] = ['ask', 'act'];

describe.each(owners)('as uid $uid', (owner) => {
  let ground: Ground;
  let plain: Set<string>;
  const made: Ground[] = [];
  const fresh = async () => {
    const next = await makeGround(owner);
    made.push(next);
    return next;
  };

  beforeAll(async () => {
    ground = await fresh();
    // A private mount namespace, because some attempts would otherwise change the mounts of this machine.
    const own = owner.uid === 0 ? ['unshare', '--mount', '--propagation', 'private', '--'] : [];
    const real = ATTEMPTS.filter(({ plain }) => plain === 'anyone' || (plain === 'root' && owner.uid === 0));
    plain = await tryAll(ground, real, (argv) => [...own, ...argv]);
  });
  afterAll(async () => {
    for (const each of made) await each.close();
  });

  it('without a view the attempts succeed, so they are attempts', () => {
    const wanted = ATTEMPTS.filter(
      ({ plain }) => plain === 'anyone' || (plain === 'root' && owner.uid === 0),
    );
    expect([...plain]).toEqual(wanted.map(({ name }) => name));
  });

  describe.runIf(allows(owner))('and a view', () => {
    const candidates = [...bwrapViews(process.env, owner), ...unshareViews(process.env, owner)];
    describe.each(candidates)('$name', ({ view }) => {
      describe.each(MODES)('%s', (mode) => {
        let results: Set<string>;
        let target: Ground;
        beforeAll(async () => {
          target = await fresh();
          results = await tryAll(target, ATTEMPTS, (argv) => view.wrap(argv, target.spec(mode)).argv);
        });

        it('lets out nothing, and lets work what is meant to', () => {
          const open = ATTEMPTS.filter((attempt) => attempt.open.includes(mode));
          expect([...results]).toEqual(open.map(({ name }) => name));
        });

        it('leaves what is outside as it was', () => {
          expect(readFileSync(join(target.prizes, 'victim'), 'utf8')).toBe('x\n');
          expect(target.outside.exitCode ?? target.outside.signalCode).toBe(null);
        });
      });
    });
  });
});
