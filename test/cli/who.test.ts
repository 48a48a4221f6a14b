import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** `--who` in one token: each row of the grammar's table, against one crew. */

let world: World;
beforeAll(async () => {
  // The hero is a mechanic on sh, so that every clone that names no brain can work here.
  const files = {
    'khlone.yml': 'crew: { clone.0: { role: mechanic, brain: sh }, limits: { max_clones: 20 } }\n',
  };
  world = await createWorld({ repository: { files } });
  // More clones than usual may cost more than usual, so a person agrees to it once.
  await world.khlone(['trust', '--yes']);
});
afterAll(() => world.dispose());

/** The clone that got the task, and whether it was enrolled for it. */
const given = async (...who: string[]): Promise<string> => {
  const said = await world.says(['act', ...who.flatMap((token) => ['--who', token]), 'true']);
  const clone = /task-\d+ → (\S+) \(@feat\/auth\)/.exec(said)?.[1];
  return clone === undefined ? said : `${/init|enrolled/.exec(said)?.[0] ?? 'found'} ${clone}`;
};

describe('--who', () => {
  test('omitted, hero and clone.0 name the hero, made at the first task', async () => {
    expect(await given()).toBe('init mechanic.1');
    expect(await given()).toBe('found mechanic.1');
    expect(await given('hero')).toBe('found mechanic.1');
    expect(await given('clone.0')).toBe('found mechanic.1');
  });

  test('with a role names one of it on the hero’s brain, enrolled if there is none', async () => {
    expect(await given('mechanic')).toBe('found mechanic.1');
    expect(await given('reviewer')).toBe('enrolled reviewer.1');
    expect(await given('reviewer')).toBe('found reviewer.1');
  });

  test('with a role names the least busy one', async () => {
    await world.khlone(['act', '--who', 'tester', 'until [ -e go ]; do sleep 0.02; done']);
    expect(await given('tester++')).toBe('enrolled tester.2');
    await world.khlone(['act', '--await', '--who', 'tester.2', 'true']);
    expect(await given('tester')).toBe('found tester.2');
    await world.sh('touch go');
  });

  test('with role and index names exactly that clone', async () => {
    expect(await given('reviewer.1')).toBe('found reviewer.1');
    expect(await given('reviewer.1@sh')).toBe('found reviewer.1');
    expect(await given('reviewer.7')).toMatch(
      /^! ✗ no clone reviewer\.7 in this zone\n! {3}↳ the crew: mechanic\.1 on sh, .*reviewer\.1 on sh.*\n\[exit 2\]\n$/,
    );
    expect(await given('mechanic.1@claude')).toMatch(/^! ✗ mechanic\.1 is on sh, not claude\n/);
  });

  test('with @brain names the hero’s role on that brain', async () => {
    expect(await given('@sh')).toBe('found mechanic.1');
  });

  test('with ++ names a new clone, always', async () => {
    expect(await given('researcher++')).toBe('enrolled researcher.1');
    expect(await given('researcher++')).toBe('enrolled researcher.2');
    expect(await given('researcher@sh++')).toBe('enrolled researcher.3');
    expect(await given('++')).toBe('enrolled mechanic.2');
  });

  test('is taken from KHLONE_WHO where the flag is not given', async () => {
    const env = { KHLONE_WHO: 'reviewer' };
    expect(await world.says(['act', 'true'], { env })).toContain('→ reviewer.1');
    expect(await world.says(['act', '--who', 'hero', 'true'], { env })).toContain('→ mechanic.1');
  });

  test.each([
    ['.2', 'an index needs a role before it'],
    ['mechanic.3++', 'a new clone gets its index by itself'],
    ['a b', 'a role is lower-case letters, digits and "-", at most 40'],
    ['+++', 'it does not fit the grammar'],
    ['mechanic.x', 'an index is a number such as 1'],
    ['hero.1', 'the hero has no index'],
  ])('that is %j is an error that shows the grammar', async (token, why) => {
    expect(await given(token)).toBe(
      `! ✗ ${JSON.stringify(token)} names no clone: ${why}\n` +
        '!   ↳ --who takes [role][.n][@brain][++]: mechanic, mechanic.1, @codex, researcher@codex++, hero\n[exit 2]\n',
    );
  });

  test('with an unknown role or brain is an error that lists the known ones', async () => {
    expect(await given('plumber')).toBe(
      '! ✗ no role named plumber\n!   ↳ known roles: foreman, mechanic, architect, reviewer, researcher, tester, ergonomist\n[exit 2]\n',
    );
    expect(await given('@gpt')).toBe('! ✗ unknown brain "gpt"\n!   ↳ known: claude, sh\n[exit 2]\n');
  });

  test('with a brain that cannot be driven says so and names those that can', async () => {
    expect(await given('@codex')).toBe(
      '! ✗ codex cannot be driven headless by this version of khlone\n!   ↳ it can drive: claude, sh\n[exit 2]\n',
    );
  });

  test('does not make sh the hero because a script was run before', async () => {
    const other = world.repository('scripted');
    expect(await world.says(['act', '--who', '@sh', 'true'], { cwd: other })).toContain('✓ init');
    expect(await world.says(['act', 'implement auth'], { cwd: other })).toMatch(/^! ✗ no brain is ready/);
    expect(await world.says(['act', '--who', 'hero@sh', 'true'], { cwd: other })).toContain(
      '✓ enrolled mechanic.2',
    );
    expect(await world.says(['act', 'true'], { cwd: other })).toContain('→ mechanic.2');
  });

  test('never means sh where nobody named it: with no brain ready it is said which were looked for', async () => {
    const other = world.repository('no-hero');
    expect(await world.says(['act', 'hello'], { cwd: other })).toMatch(
      /^! ✗ no brain is ready; looked for claude, codex, gemini, opencode.*\n! {3}↳ npm i -g @anthropic-ai\/claude-code.*--who @sh runs shell commands without one\n\[exit 2\]\n$/,
    );
    expect(await world.says(['status'], { cwd: other })).toContain('no zones yet');
  });

  test('beyond the crew’s limit is refused', async () => {
    const files = {
      'khlone.yml': 'crew: { clone.0: { role: mechanic, brain: sh }, limits: { max_clones: 1 } }\n',
    };
    const small = world.repository('small', { files });
    await world.khlone(['trust', '--yes'], { cwd: small });
    await world.khlone(['act', 'true'], { cwd: small });
    expect(await world.says(['act', '--who', 'tester++', 'true'], { cwd: small })).toBe(
      '! ✗ this zone has 1 of at most 1 clones\n!   ↳ khlone crew del CLONE, or raise crew.limits.max_clones in khlone.yml\n[exit 2]\n',
    );
  });
});
