import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_SITE_FILE_BYTES } from '../../src/client/site-config.ts';
import { KhloneError } from '../../src/protocol/error.ts';
import { parse, refusal } from './khlone-yml.ts';

describe('a hostile khlone.yml', () => {
  it('follows a few aliases, finds mistakes behind them, and refuses a bomb of them', () => {
    const shared = 'roles: { a: &r { path: ./r }, b: *r }';
    expect(parse(shared).roles.b).toEqual({ path: './r' });
    expect(refusal('roles: { a: &r { pat: ./r }, b: *r }')).toContain(
      'khlone.yml:1:18 unknown key roles.a.pat',
    );
    const levels = Array.from({ length: 12 }, (_, i) => `r${i + 1}: &l${i + 1} [${`*l${i}, `.repeat(2)}]`);
    expect(refusal(`l: &l0 [x]\n${levels.join('\n')}\n`)).toMatch(/aliases/u);
    expect(refusal(`l: &l0 [x]\nm: [${'*l0, '.repeat(40)}]\n`)).toMatch(/more than 32 aliases/u);
    expect(refusal('roles: &a { b: *a }')).toMatch(/^khlone\.yml:/u);
  });

  it('survives nesting as deep as a file may be', () => {
    expect(refusal('['.repeat(MAX_SITE_FILE_BYTES))).toMatch(/nested too deeply/u);
    expect(refusal('zone: '.concat('{a: '.repeat(50_000)))).toMatch(/khlone\.yml:/u);
  });

  it('shows hostile keys and values without their control codes', () => {
    const message = refusal('"\\e]0;x\\a\\e[2Jkey": 1\nzone: { mode: "\\e[2J\\u202Eevil" }\n');
    expect(message).toMatch(/^[^\u0000-\u0009\u000B-\u001F\u007F-\u009F\u202E]*$/u);
    expect(message).toContain('unknown key key');
  });

  it('answers or refuses with places, whatever the text', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        ...'zone crew mode ssh hooks onStop run [ ] { } : , - & * ! | > # " \' \n'.split(' '),
        '\n',
        '  ',
        ': ',
        '? ',
        '&a ',
        '*a',
      ),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { size: 'max', maxLength: 40 }), (pieces) => {
        try {
          parse(pieces.join(''));
        } catch (error) {
          if (!(error instanceof KhloneError) || error.code !== 'config') throw error;
          expect(error.message).toMatch(/^khlone\.yml:\d+:\d+ \S/u);
        }
      }),
      { numRuns: 1500 },
    );
  });
});
