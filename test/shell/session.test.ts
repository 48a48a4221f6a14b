import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeMail } from '../../src/client/shell-state.ts';
import { makePlace, type Place, runLines, SHELLS } from './fake-khlone.ts';
import { CASES, HOSTILE, SHOW } from './session-cases.ts';

// Cases run side by side, each with a home of its own.
const places: Place[] = [];
const newPlace = (): Place => {
  const place = makePlace();
  places.push(place);
  return place;
};
afterAll(() => {
  for (const place of places) place.remove();
});

/** What a shell says when our functions trip over somebody's options. */
const COMPLAINT = /__khlone|k_\w+:|created globally|parameter not set|unbound|readonly|bad /;

for (const shell of SHELLS) {
  const fill = (lines: readonly string[]) =>
    lines.map((line) => line.replaceAll('PLUGIN', `'${shell.plugin}'`).replaceAll('SELF', shell.path));
  const run = (place: Place, lines: readonly string[]) =>
    runLines(shell, place, fill(['. PLUGIN', ...lines]));
  const shown = (stdout: string) => [...stdout.matchAll(/@([^@\n]*)@/g)].map((match) => match[1]);

  describe(`the session in ${shell.path}`, () => {
    for (const { says, lines, shows, code } of CASES.filter(
      ({ only }) => only === undefined || only === shell.name,
    )) {
      test.concurrent(says, async () => {
        const input = fill(['. PLUGIN', ...lines]);
        const ran = await runLines(shell, newPlace(), input);
        // bash echoes what it reads; what else it says must not be about us.
        const said = ran.stderr.split('\n').filter((line) => !input.some((typed) => line.endsWith(typed)));
        expect(shown(ran.stdout)).toEqual(shows);
        expect(said.filter((line) => COMPLAINT.test(line))).toEqual([]);
        if (code !== undefined) expect(ran.code).toBe(code);
      });
    }

    test('words arrive as they were typed', async () => {
      const place = newPlace();
      await run(place, [`khlone args 'a b' '*' '$x' "it's" '' -- '\\n' $'new\\nline'`]);
      const args = readFileSync(join(place.home, 'args'), 'utf8').split('\0');
      expect(args).toEqual(['a b', '*', '$x', "it's", '', '--', '\\n', 'new\nline', '']);
    });

    test('a hostile mailbox changes nothing and runs nothing', async () => {
      const place = newPlace();
      const lines = HOSTILE.flatMap((note) => [`khlone raw '${note}'`, SHOW]);
      const { stdout } = await run(place, ['khlone act a', ...lines]);
      expect(shown(stdout)).toEqual(HOSTILE.map(() => 's1'));
      expect(existsSync(join(place.root, 'pwned'))).toBe(false);
    });

    test('a mailbox written by the hub is adopted', async () => {
      const place = newPlace();
      writeFileSync(
        join(place.root, 'bin', 'khlone'),
        '#!/bin/sh\necho "$KHLONE_SHELL" >"$KHLONE_HOME/shell-id"\n',
      );
      await run(place, ['khlone act a']);
      const shellId = readFileSync(join(place.home, 'shell-id'), 'utf8').trim();
      // The same shell cannot be asked again, so another is given its id.
      writeMail(place.home, shellId, 'sess-1.x', '@feat/auth');
      const { stdout } = await run(place, [`__khlone_shell=${shellId}`, SHOW]);
      expect(shown(stdout)).toEqual(['sess-1.x']);
    });
  });
}
