import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSanitizer, MAX_SEQUENCE, oneLine, sanitize } from '../../src/protocol/sanitize.ts';

const ESC = '\u001b';
const BEL = '\u0007';
const ST = `${ESC}\\`;

/** [what the bytes try, the bytes, what a person may see of them] */
const ATTACKS: readonly (readonly [string, string, string])[] = [
  ['colour', `a${ESC}[31mb${ESC}[0mc`, 'abc'],
  ['clear screen', `a${ESC}[2J${ESC}[Hb`, 'ab'],
  ['cursor up and overwrite', `bad${ESC}[1A${ESC}[2Kgood`, 'badgood'],
  ['alternate screen', `${ESC}[?1049hx${ESC}[?1049l`, 'x'],
  ['mouse reporting', `${ESC}[?1000;1006hx`, 'x'],
  ['bracketed paste off', `${ESC}[?2004lx`, 'x'],
  ['device status report', `${ESC}[6nx`, 'x'],
  ['device attributes', `${ESC}[cx${ESC}[>c`, 'x'],
  ['title report', `${ESC}[21tx`, 'x'],
  ['window resize', `${ESC}[8;1;1tx`, 'x'],
  ['CSI with intermediates', `${ESC}[0 qx${ESC}[!p`, 'x'],
  ['CSI of colons', `${ESC}[38:2::1:2:3mx`, 'x'],
  ['OSC title, BEL', `${ESC}]0;owned${BEL}x`, 'x'],
  ['OSC title, ST', `${ESC}]2;owned${ST}x`, 'x'],
  ['OSC title, C1 ST', `${ESC}]2;owned\u009cx`, 'x'],
  ['OSC 52 clipboard', `${ESC}]52;c;cm0gLXJmIC8=${BEL}x`, 'x'],
  ['OSC 52 clipboard by C1', `\u009d52;c;cm0gLXJmIC8=\u009cx`, 'x'],
  ['OSC 8 hyperlink', `${ESC}]8;;http://evil${ST}bank${ESC}]8;;${ST}`, 'bank'],
  ['OSC 9 notice', `${ESC}]9;hi${BEL}x`, 'x'],
  ['OSC 1337 file', `${ESC}]1337;File=inline=1:AAAA${BEL}x`, 'x'],
  ['OSC 133 prompt mark', `${ESC}]133;A${BEL}$ `, '$ '],
  ['OSC palette query', `${ESC}]4;0;?${BEL}x`, 'x'],
  ['DCS DECRQSS', `${ESC}P$qm${ST}x`, 'x'],
  ['DCS by C1', `\u0090$qm\u009cx`, 'x'],
  ['DCS over lines', `${ESC}Pq#0\n#1${ST}x`, 'x'],
  ['sixel', `${ESC}Pq#0;2;0;0;0~~${ST}x`, 'x'],
  ['tmux passthrough', `${ESC}Ptmux;${ESC}${ESC}]52;c;AAAA${BEL}${ST}x`, 'x'],
  ['screen title', `${ESC}kowned${ST}x`, 'x'],
  ['APC', `${ESC}_Gf=100;AAAA${ST}x`, 'x'],
  ['APC by C1', `\u009fG\u009cx`, 'x'],
  ['PM', `${ESC}^hidden${ST}x`, 'x'],
  ['PM by C1', `\u009ehidden\u009cx`, 'x'],
  ['SOS', `${ESC}Xhidden${ST}x`, 'x'],
  ['SOS by C1', `\u0098hidden\u009cx`, 'x'],
  ['CSI by C1', `\u009b2Jx`, 'x'],
  ['lone C1', `a\u0085b\u008dc\u0084d`, 'abcd'],
  ['full reset', `${ESC}cx`, 'x'],
  ['charset change', `${ESC}(0x${ESC}(B`, 'x'],
  ['shift out', `a\u000eb\u000fc`, 'abc'],
  ['double height', `${ESC}#3x`, 'x'],
  ['keypad mode', `${ESC}=x${ESC}>`, 'x'],
  ['ESC ESC', `${ESC}${ESC}[31mx`, 'x'],
  ['cancelled CSI', `${ESC}[31\u0018x`, 'x'],
  ['cancelled OSC', `${ESC}]0;a\u001ax`, 'x'],
  ['OSC broken by another', `${ESC}]0;a${ESC}[31mx`, 'x'],
  ['CSI inside CSI', `${ESC}[3${ESC}[1mx`, 'x'],
  ['control inside CSI', `${ESC}[3\u00081mx`, 'x'],
  ['unterminated OSC', `x\n${ESC}]0;owned`, 'x\n'],
  ['unterminated OSC, then a line', `${ESC}]0;owned\nx`, '\nx'],
  ['unterminated CSI', `x${ESC}[31;`, 'x'],
  ['unterminated CSI, then a line', `${ESC}[31;\nHello`, '\nHello'],
  ['unterminated DCS', `x${ESC}Pq`, 'x'],
  ['unterminated ESC', `x${ESC}`, 'x'],
  ['CSI before an astral letter', `${ESC}[3😀x`, '😀x'],
  ['overwrite by CR', 'rm -rf /\recho hi', 'rm -rf /\necho hi'],
  ['CR LF', 'a\r\nb\r\nc', 'a\nb\nc'],
  ['CR, codes, LF', `a\r${ESC}[K\u0000\nb`, 'a\nb'],
  ['CR CR LF', 'a\r\r\nb', 'a\n\nb'],
  ['overwrite by BS', 'evil\b\b\b\bgood', 'evilgood'],
  ['bell, NUL, DEL, VT, FF', 'a\u0007\u0000\u007f\u000b\u000cb', 'ab'],
  ['ENQ and answerback', 'a\u0005b', 'ab'],
  ['bidi override', 'a\u202Eb\u202Cc', 'a\uFFFDb\uFFFDc'],
  ['bidi isolates', 'a\u2066b\u2069', 'a\uFFFDb\uFFFD'],
  ['zero width', 'a\u200Bb\u200D\u2060\uFEFFc', 'a\uFFFDb\uFFFD\uFFFD\uFFFDc'],
  ['tag letters', 'a\u{E0001}\u{E0041}b', 'a\uFFFD\uFFFDb'],
  ['variation smuggling', 'a\u{E0100}b', 'a\uFFFDb'],
  ['line separator', 'a\u2028b\u2029c', 'a\uFFFDb\uFFFDc'],
  ['soft hyphen', 'pass\u00ADword', 'pass\uFFFDword'],
  ['lone surrogates', 'a\uD83Db\uDE00c', 'a\uFFFDb\uFFFDc'],
  ['torn end', 'a\uD83D', 'a\uFFFD'],
];

const SAFE = /^[\t\n -~\u00A0-\u{10FFFF}]*$/u;
const FORBIDDEN = /[\u200B-\u200F\u202A-\u202E\u2066-\u2069\uFEFF\u{E0000}-\u{E007F}\p{Cs}]/u;

/** Output for an input cut at the given places. */
const inPieces = (text: string, cuts: readonly number[]): string => {
  const sanitizer = createSanitizer();
  const places = [0, ...[...cuts].sort((a, b) => a - b), text.length];
  const pieces = places.slice(1).map((end, index) => sanitizer.write(text.slice(places[index], end)));
  return pieces.join('') + sanitizer.end();
};

const pieceOfAttack = fc.oneof(
  fc.constantFrom(...ATTACKS.map(([, bytes]) => bytes)),
  fc.constantFrom(
    ESC,
    BEL,
    ST,
    '[',
    ']',
    'P',
    '\\',
    '\r',
    '\n',
    '\t',
    ';',
    'm',
    '\u009b',
    '\u009c',
    '\u0018',
    '😀',
    '\uD83D',
  ),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
);
const attack = fc.array(pieceOfAttack, { size: 'max', maxLength: 30 }).map((pieces) => pieces.join(''));

describe('sanitize', () => {
  it('has a corpus worth its name', () => {
    expect(ATTACKS.length).toBeGreaterThanOrEqual(43);
  });

  it.each(ATTACKS)('leaves nothing of: %s', (_name, bytes, seen) => {
    expect(sanitize(bytes)).toBe(seen);
    for (let cut = 0; cut <= bytes.length; cut += 1) expect(inPieces(bytes, [cut])).toBe(seen);
    expect(
      inPieces(
        bytes,
        [...bytes].map((_, index) => index),
      ),
    ).toBe(seen);
  });

  it('gives the same output for every way to cut the input, and nothing a terminal would obey', () => {
    fc.assert(
      fc.property(attack, fc.array(fc.nat({ max: 400 }), { size: 'max', maxLength: 20 }), (text, cuts) => {
        const whole = sanitize(text);
        expect(
          inPieces(
            text,
            cuts.map((cut) => Math.min(cut, text.length)),
          ),
        ).toBe(whole);
        expect(whole).toMatch(SAFE);
        expect(whole).not.toMatch(FORBIDDEN);
      }),
      { numRuns: 3000 },
    );
  });

  it('changes nothing about what it has made safe', () => {
    fc.assert(
      fc.property(attack, (text) => sanitize(sanitize(text)) === sanitize(text)),
      { numRuns: 1000 },
    );
  });

  it('keeps clean text of all scripts as it is', () => {
    const clean = 'line\n\tindent — “quotes” é 日本語 العربية 😀 ⚠️ e\u0301 └─ ●\n';
    expect(sanitize(clean)).toBe(clean);
  });

  it('shows the stream again when a sequence never ends', () => {
    const output = sanitize(`${ESC}Pq${'~'.repeat(MAX_SEQUENCE + 100)}the end`);
    expect(output.endsWith('the end')).toBe(true);
    expect(output.length).toBeLessThan(200);
  });

  it('counts the bound of a sequence the same in any chunking', () => {
    const text = `${ESC}Pq${'😀'.repeat(MAX_SEQUENCE)}end`;
    expect(inPieces(text, [5, 6, 7, 70_001])).toBe(sanitize(text));
  });

  it('starts anew after its end', () => {
    const sanitizer = createSanitizer();
    expect(sanitizer.write(`a\r${ESC}]0;x`) + sanitizer.end()).toBe('a\n');
    expect(sanitizer.write('\nb') + sanitizer.end()).toBe('\nb');
  });
});

describe('oneLine', () => {
  it('makes one line of hostile text within its bound', () => {
    expect(oneLine(`fix\n\n ${ESC}[2Jthe\r\tbug `, 40)).toBe('fix the bug');
    expect(oneLine('abcdefgh', 5)).toBe('abcd…');
    expect(oneLine('😀😀😀', 3)).toBe('😀😀😀');
    expect(oneLine('😀😀😀😀', 3)).toBe('😀😀…');
  });

  it('is one line of at most the asked length for any text', () => {
    fc.assert(
      fc.property(attack, fc.integer({ min: 1, max: 50 }), (text, max) => {
        const line = oneLine(text, max);
        expect([...line].length).toBeLessThanOrEqual(max);
        expect(line).not.toMatch(/[\n\t\r]/u);
      }),
    );
  });
});
