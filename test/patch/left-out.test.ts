import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { boundaryOf } from '../../src/patch/history.ts';
import { isOurs, looksSecret, matcherOf } from '../../src/patch/left-out.ts';
import { publicUrl } from '../../src/patch/manifest.ts';

const words = (text: string): string[] => text.trim().split(/\s+/u);

describe('names that look like secrets', () => {
  it('are known at any depth, and their examples are not secrets', () => {
    const secret = words(
      '.env .env.local .envrc a/.env.production x.pem x.KEY id_rsa id_ed25519.bak id_work .npmrc .netrc .aws/config a/.ssh/known x.p12',
    );
    expect(secret.filter((name) => !looksSecret(name))).toEqual([]);
    const harmless = words(
      '.env.example a/.env.sample env.ts keyboard.ts id_generator.ts monkey src/aws/a.ts x.pem.ts .envoy/x',
    );
    expect(harmless.filter((name) => looksSecret(name))).toEqual([]);
  });

  it('are not confused with the folder of khlone', () => {
    expect([isOurs('.khlone'), isOurs('.khlone/a'), isOurs('.khlone.yml'), isOurs('a/.khlone')]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('patterns', () => {
  it('match as in gitignore: names anywhere, paths from the top, folders with all they hold', () => {
    const table: [string, string, boolean][] = [
      ['*.mp4', 'a/b/c.mp4', true],
      ['*.mp4', 'c.mp4x', false],
      ['/top.txt', 'top.txt', true],
      ['/top.txt', 'a/top.txt', false],
      ['data/*.csv', 'data/a.csv', true],
      ['data/*.csv', 'data/b/a.csv', false],
      ['data/**', 'data/b/a.csv', true],
      ['**/x/*.ts', 'x/a.ts', true],
      ['**/x/*.ts', 'a/b/x/a.ts', true],
      ['build/', 'a/build/out.js', true],
      ['a?c', 'abc', true],
      ['a.c', 'abc', false],
      ['new\nline*', 'new\nline.txt', true],
    ];
    expect(table.filter(([pattern, path, is]) => matcherOf([pattern])(path) !== is)).toEqual([]);
    expect(matcherOf([])('a')).toBe(false);
    expect(matcherOf(['', ' '])('a')).toBe(false);
  });

  it('never throw, and a name matches itself', () => {
    fc.assert(
      fc.property(
        fc.string({ size: 'max', maxLength: 200 }),
        fc.string({ maxLength: 50 }),
        (pattern, path) => {
          expect(typeof matcherOf([pattern])(path)).toBe('boolean');
        },
      ),
    );
    const plain = fc.stringMatching(/^[^*?/\s]{1,20}$/u);
    fc.assert(
      fc.property(plain, (name) => {
        expect(matcherOf([name])(`a/${name}`)).toBe(true);
      }),
    );
  });
});

describe('a public url', () => {
  it('never holds what stood before the last @ of an https url, and is a fixed point', () => {
    const credentials = fc.string({ unit: fc.constantFrom(...'aB1:%@-_.'), minLength: 1, maxLength: 30 });
    const path = fc.string({ unit: fc.constantFrom(...'ab/.-_~'), maxLength: 30 });
    fc.assert(
      fc.property(credentials, path, (user, rest) => {
        expect(publicUrl(`https://${user}@example.org/${rest}?t=${rest}`)).toBe(
          `https://example.org/${rest}`,
        );
      }),
    );
    const pieces = ['https://', 'ssh://', 'a', '@', ':', '/', '?', '#', '-', '.', '\n', '[::1]', 'git'];
    const anything = fc.string({ unit: fc.constantFrom(...pieces), size: 'max', maxLength: 60 });
    fc.assert(
      fc.property(anything, (text) => {
        const url = publicUrl(text);
        if (url !== undefined) expect(publicUrl(url)).toBe(url);
      }),
      { numRuns: 2_000 },
    );
  });
});

/** Commits numbered from the newest; each has parents among the older ones, some of which may not be listed. */
const history = fc
  .array(fc.array(fc.nat(400), { maxLength: 3 }), { minLength: 1, maxLength: 120, size: 'max' })
  .map(
    (rows) =>
      new Map<string, readonly string[]>(
        rows.map((row, i) => [`${i}`, [...new Set(row)].map((step) => `${i + 1 + (step % 20)}`)] as const),
      ),
  );

describe('a shallow boundary', () => {
  it('lets a walk from HEAD reach only listed commits, none deeper than asked, and cuts nothing in vain', () => {
    fc.assert(
      fc.property(history, fc.integer({ min: 1, max: 60 }), (commits, depth) => {
        const boundary = new Set(boundaryOf(commits, '0', depth));
        const deep = new Map([['0', 1]]);
        for (const [commit, at] of deep) {
          expect(commits.has(commit)).toBe(true);
          expect(at).toBeLessThanOrEqual(depth);
          const parents = commits.get(commit) ?? [];
          if (boundary.has(commit)) {
            expect(at === depth || parents.some((parent) => !commits.has(parent))).toBe(true);
            continue;
          }
          // A map is walked in the order of insertion, so this is breadth first.
          for (const parent of parents) if (!deep.has(parent)) deep.set(parent, at + 1);
        }
      }),
      { numRuns: 500 },
    );
  });
});
