import type { Brain, Probe } from '../brains/brain.ts';
import { firstReady, probeHeroes } from '../brains/registry.ts';
import { findView, type View } from '../brains/view.ts';
import { parseWho } from '../protocol/address.ts';
import type { AnswerOf, Policy } from '../protocol/calls.ts';
import { asKhloneError } from '../protocol/error.ts';
import { choose } from './crew.ts';
import type { Environment } from './prepare.ts';
import type { Store } from './store/store.ts';
import { crewOf } from './store/zones.ts';
import { tmuxVersion } from './tmux/version.ts';

/** What this machine can do, found once and kept for a time: brains per PATH, and the kernel's view. */

/** A brain that was found stays found this long; one that was not is looked for again sooner. */
const KEEP_FOUND_MS = 10 * 60_000;
const KEEP_MISSING_MS = 5_000;
/** A view that holds does so while the machine runs; one that did not may only have had too little memory or time. */
const KEEP_NO_VIEW_MS = 10 * 60_000;

export type Survey = {
  probe(brain: Brain, environment: Environment): Promise<Probe>;
  view(): Promise<View | undefined>;
  viewNote(kind: 'ask' | 'act', policy: Policy): Promise<string | undefined>;
  machine(environment: Environment): Promise<AnswerOf<'brain.probe'>>;
};

export const createSurvey = (tempDir: string): Survey => {
  const probes = new Map<string, { atMs: number; probe: Promise<Probe>; ready: boolean }>();
  let sought: { atMs: number; found: ReturnType<typeof findView>; holds: boolean } | undefined;

  const probe = async (brain: Brain, environment: Environment): Promise<Probe> => {
    // Credentials decide readiness too, so their presence (never their value) is part of the key.
    const keys = Object.keys(environment).filter((name) => /KEY|TOKEN|_BASE_URL|CONFIG_DIR/.test(name));
    const key = [brain.name, environment.PATH, environment.HOME, ...keys.sort()].join('\0');
    const known = probes.get(key);
    const keepMs = known?.ready ? KEEP_FOUND_MS : KEEP_MISSING_MS;
    if (known && performance.now() - known.atMs < keepMs) return known.probe;
    const entry = { atMs: performance.now(), probe: brain.probe(environment), ready: false };
    probes.set(key, entry);
    const result = await entry.probe;
    entry.ready = result.ready;
    return result;
  };

  /** Rejects where it could not even be tried: nobody is to run without a view for want of a little disk. */
  const viewFound = (): ReturnType<typeof findView> => {
    if (sought && (sought.holds || performance.now() - sought.atMs < KEEP_NO_VIEW_MS)) return sought.found;
    const now = { atMs: performance.now(), found: findView({ env: process.env, tempDir }), holds: false };
    sought = now;
    now.found.then(
      ({ view }) => {
        now.holds = view !== undefined;
      },
      () => {
        if (sought === now) sought = undefined;
      },
    );
    return now.found;
  };

  return {
    probe,
    view: async () => (await viewFound()).view,
    viewNote: async (kind, policy) => {
      const { view, why } = await viewFound();
      if (kind === 'ask') return view ? undefined : `asks run without a read-only view here: ${why}`;
      if (policy.sandbox === 'off') return 'acts write wherever you may (crew.sandbox: off)';
      return view
        ? `acts write only in the worktree, its git directory, caches and the brain's state (${view.kind})`
        : `acts are not confined here: ${why}`;
    },
    machine: async (environment) => {
      const [brains, view, tmux] = await Promise.all([
        probeHeroes(environment),
        viewFound(),
        tmuxVersion({ PATH: environment.PATH ?? process.env.PATH ?? '' }).then(
          (version) => ({ version: version.text }),
          (error) => ({ why: asKhloneError(error).message }),
        ),
      ]);
      const told = brains.map(({ name, probe: p }) => ({
        name,
        ready: p.ready,
        ...(p.why && { why: p.why }),
        ...(p.hint && { hint: p.hint }),
        ...(p.version && { version: p.version }),
      }));
      return {
        brains: [...told, { name: 'sh', ready: true }],
        view: { ...(view.view && { kind: view.view.kind }), why: view.why },
        tmux,
      };
    },
  };
};

const namesClone = (who: string): boolean => /^[a-z][a-z0-9-]*\.[1-9]\d*$/.test(who);

/** Whether this dispatch will enroll a clone for which nobody names a brain. Errors are left to the dispatch itself. */
const needsBrain = (store: Store, zone: string, policy: Policy, who: string | undefined): boolean => {
  if (policy.heroBrain ?? policy.defaultBrain) return false;
  // Most dispatches name a clone, and a clone has its brain: the crew need not be looked at.
  if (who !== undefined && namesClone(who)) return false;
  const crew = crewOf(store, zone).map((clone) => ({ ...clone, index: clone.idx, load: 0 }));
  const hero = crew.find((clone) => clone.hero === 1);
  try {
    const choice = choose(crew, hero, who === undefined ? undefined : parseWho(who), policy);
    return choice.type === 'enroll' && choice.brain === undefined;
  } catch {
    return false;
  }
};

/** The brain that an unnamed one means: the first that is ready, looked for only when a clone has to be enrolled. */
export const fallbackBrain =
  (store: Store, environmentOf: (zone: string) => Environment) =>
  async (zone: string, policy: Policy, who: string | undefined): Promise<string | undefined> =>
    needsBrain(store, zone, policy, who) ? (await firstReady(environmentOf(zone))).name : undefined;
