import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { createEscapes } from '../terminal/escape.ts';
import type { HereTerminal, Size } from '../terminal/here.ts';
import { createScreenFilter } from '../terminal/picture.ts';
import type { Ended, Visit, Way } from './visit.ts';

/**
 * Looks at a viewer until it ends or the person leaves. A way that breaks is opened again for as long as it takes; the
 * person sees since when, and may leave at any moment, because no wait here is longer than their patience.
 */

/** Lines of ours over the picture, and whether `~` leaves wherever it is typed. */
export type Lines = {
  reconnecting(seconds: number): string;
  help(columns: number): string;
  anywhere: boolean;
};

/** What time may mend. All else is for a person: a login, a host key, a clone that is not there. */
const PASSING: ReadonlySet<string> = new Set(['unreachable', 'timeout', 'start-failed', 'remote-setup']);
const FIRST_PAUSE_MS = 100;
/** A person waits for it: much shorter than what a link does by itself. */
const LONGEST_PAUSE_MS = 1_000;
/** A host that cannot be looked into at all is told soon; one that was there is waited for. */
const FIRST_TRIES = 4;
const TICK_MS = 1_000;
/** A help that nobody types away goes by itself. */
const HELP_MS = 8_000;
/** A tmux that dies again and again as soon as it is looked at is a fault to be told. */
const STEADY_MS = 5_000;
const LOSSES = 5;

type Watch = {
  way: Way;
  here: HereTerminal;
  lines: Lines;
  /** Aborts when the person left, in whatever way. */
  left: AbortSignal;
  visit: Visit | undefined;
  seen: boolean;
  /** Since when nothing is seen, as performance.now(). */
  awayMs: number | undefined;
};

/** Resolves after so many ms, or when the person left. */
const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });

const sayAway = ({ here, lines, awayMs }: Watch): void => {
  if (awayMs !== undefined) here.say(lines.reconnecting(Math.round((performance.now() - awayMs) / 1000)));
};

/** The whole picture anew: another size and back, which every tmux answers by drawing. */
const redraw = ({ here, visit }: Watch): void => {
  const size = here.size();
  visit?.resize({ ...size, rows: size.rows > 1 ? size.rows - 1 : 2 });
  visit?.resize(size);
};

const isSame = (a: Size, b: Size): boolean => a.columns === b.columns && a.rows === b.rows;

/** Draws until the viewer ended. Throws what broke the way to it. */
const drawVisit = async (watch: Watch): Promise<void> => {
  const { here, way, left } = watch;
  const size = here.size();
  const visit = await way.open(size, left);
  const filter = createScreenFilter();
  try {
    watch.visit = visit;
    watch.seen = true;
    watch.awayMs = undefined;
    if (!isSame(size, here.size())) visit.resize(here.size());
    for await (const bytes of visit.output) {
      // What a program says about being left is not for the terminal that left it.
      if (left.aborted) return;
      await here.draw(filter(bytes));
    }
  } finally {
    watch.visit = undefined;
    visit.close();
  }
};

const follow = async (watch: Watch): Promise<Ended> => {
  const { way, left } = watch;
  let isDrawn = false;
  let losses = 0;
  for (let tries = 1; ; tries += 1) {
    const begun = performance.now();
    try {
      if (!isDrawn) await drawVisit(watch);
      // From here on only the question how it ended is asked again: to open it would begin a new one.
      isDrawn = true;
      const ended = await way.end(left);
      if (ended.parting !== 'lost') return ended;
      isDrawn = false;
      losses = performance.now() - begun < STEADY_MS ? losses + 1 : 1;
      if (losses === LOSSES)
        throw new KhloneError('tmux-failed', 'tmux ends again and again', 'khlone doctor');
    } catch (thrown) {
      const why = asKhloneError(thrown);
      if (left.aborted || !PASSING.has(why.code) || (!watch.seen && tries === FIRST_TRIES)) throw why;
    }
    if (performance.now() - begun > STEADY_MS) tries = 1;
    watch.awayMs ??= performance.now();
    sayAway(watch);
    await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(tries - 1, 5)), left);
  }
};

/** Sends what is typed to what is looked at, and what is meant for us to `leave` and to the help. */
const takeKeys = (watch: Watch, leave: () => void): void => {
  const escapes = createEscapes();
  let helping: NodeJS.Timeout | undefined;
  const endHelp = (): void => {
    if (helping) redraw(watch);
    clearTimeout(helping);
    helping = undefined;
  };
  const { here, lines } = watch;
  here.onKeys((bytes) => {
    // A view takes no lines, and while the way is broken nobody sees any: each key may begin what leaves.
    if (lines.anywhere || !watch.visit) escapes.restart();
    for (const typed of escapes.feed(bytes)) {
      if ('pass' in typed) {
        endHelp();
        watch.visit?.type(typed.pass);
      } else if (typed.act === 'leave') leave();
      else if (typed.act === 'suspend') here.suspend();
      else {
        clearTimeout(helping);
        here.say(lines.help(here.size().columns));
        helping = setTimeout(endHelp, HELP_MS);
        helping.unref();
      }
    }
  });
};

/**
 * How the viewer ended, or `here` where the person left by `~.` or `signal` aborted. Throws what a person has to mend.
 * The keys are ours from now on; whoever calls gives the terminal back.
 */
export const look = async (
  way: Way,
  here: HereTerminal,
  lines: Lines,
  signal: AbortSignal,
): Promise<Ended | 'here'> => {
  const leaving = new AbortController();
  const left = AbortSignal.any([leaving.signal, signal]);
  const watch: Watch = { way, here, lines, left, visit: undefined, seen: false, awayMs: undefined };
  const over = new Promise<'here'>((resolve) => {
    left.addEventListener('abort', () => resolve('here'));
    if (left.aborted) resolve('here');
  });
  const ticking = setInterval(() => sayAway(watch), TICK_MS);
  takeKeys(watch, () => leaving.abort());
  here.onResize(() => watch.visit?.resize(here.size()));
  here.onResume(() => redraw(watch));
  const followed = follow(watch);
  followed.catch(() => {});
  try {
    return await Promise.race([followed, over]);
  } finally {
    clearInterval(ticking);
    watch.visit?.close();
  }
};
