import { KhloneError } from '../protocol/error.ts';
import type { Brain, Env, Probe } from './brain.ts';
import { claude } from './claude.ts';
import { findProgram } from './program.ts';
import { createSh } from './sh.ts';

/** Which brains there are, and which one a name means. */

/** Brains that khlone looks for and names, but cannot drive yet. */
const NOT_DRIVEN = {
  codex: 'npm i -g @openai/codex',
  gemini: 'npm i -g @google/gemini-cli',
  opencode: 'npm i -g opencode-ai',
} as const;

/** The order in which a hero's brain is looked for. Never sh, which is used only when named. */
export const HERO_ORDER = ['claude', 'codex', 'gemini', 'opencode'] as const;

// The running program by default: the server bundle itself knows the word brain-sh.
let shEntry: readonly string[] = [process.argv[1] ?? ''];

/** Sets what follows the Node binary to start the brain sh, where it is not the running program (tests, other entries). */
export const setShEntry = (entry: readonly string[]): void => {
  shEntry = entry;
};

const drivable = (name: string): Brain | undefined =>
  name === 'claude' ? claude : name === 'sh' ? createSh({ entry: shEntry }) : undefined;

/** The brains that this version can drive. */
export const allBrains = (): Brain[] => ['claude', 'sh'].flatMap((name) => drivable(name) ?? []);

const isNotDriven = (name: string): name is keyof typeof NOT_DRIVEN => Object.hasOwn(NOT_DRIVEN, name);

const notDriven = (name: string): string => `${name} cannot be driven headless by this version of khlone`;

const unknown = (spec: string, aliases: Readonly<Record<string, string>>): KhloneError => {
  const known = [...allBrains().map((brain) => brain.name), ...Object.keys(aliases)].sort();
  return new KhloneError('usage', `unknown brain ${JSON.stringify(spec)}`, `known: ${known.join(', ')}`);
};

/** A brain and, where its name carried one, the model: `claude`, `claude:haiku`. */
export type Found = { brain: Brain; model: string | undefined };

/**
 * The brain that a name means; `aliases` are those of the configuration (`quick: claude:haiku`). An alias leads to a
 * brain, not to another alias, and a model in the name wins over the alias's own.
 * Throws `usage` for an unknown name and `brain-missing` for one that cannot be driven yet.
 */
export const findBrain = (spec: string, aliases: Readonly<Record<string, string>> = {}): Found => {
  const [first = '', ...modelParts] = spec.split(':');
  // A built-in name means what it says: no configuration may put another brain behind it.
  const builtIn = drivable(first) !== undefined || isNotDriven(first);
  const aliased = !builtIn && Object.hasOwn(aliases, first) ? aliases[first] : undefined;
  const [name = '', ...aliasModelParts] = (aliased ?? first).split(':');
  const model = modelParts.join(':') || aliasModelParts.join(':') || undefined;
  const brain = drivable(name);
  if (brain) return { brain, model };
  if (!isNotDriven(name)) throw unknown(spec, aliases);
  const can = allBrains().map((known) => known.name);
  throw new KhloneError('brain-missing', notDriven(name), `it can drive: ${can.join(', ')}`);
};

/** The state of each brain a hero may have, in order; the undriven ones are found or not, never ready. */
export const probeHeroes = (env: Env): Promise<{ name: string; probe: Probe }[]> =>
  Promise.all(
    HERO_ORDER.map(async (name) => {
      const brain = drivable(name);
      if (brain) return { name, probe: await brain.probe(env) };
      const path = findProgram(name, env);
      const why = path ? notDriven(name) : `${name} is not on the PATH`;
      return {
        name,
        probe: { ready: false, found: path !== undefined, auth: 'unknown', why, ...(path && { path }) },
      };
    }),
  );

/**
 * The first ready brain in HERO_ORDER. `probes` may be those of an earlier call of probeHeroes.
 * Throws `brain-auth` where one is there and only not logged in, else `brain-missing`; both say what was looked for.
 */
export const firstReady = async (
  env: Env,
  probes?: Awaited<ReturnType<typeof probeHeroes>>,
): Promise<Brain> => {
  const looked = probes ?? (await probeHeroes(env));
  const ready = looked.find(({ name, probe }) => probe.ready && drivable(name));
  const brain = ready && drivable(ready.name);
  if (brain) return brain;
  const reasons = looked.map(({ name, probe }) => probe.why ?? `${name} is not ready`).join('; ');
  const loggedOut = looked.find(({ probe }) => probe.auth === 'missing' || probe.auth === 'expired');
  const step = looked.flatMap(({ probe }) => probe.hint ?? [])[0] ?? 'npm i -g @anthropic-ai/claude-code';
  throw new KhloneError(
    loggedOut ? 'brain-auth' : 'brain-missing',
    `no brain is ready; looked for ${HERO_ORDER.join(', ')}: ${reasons}`,
    `${step}; --who @sh runs shell commands without one`,
  );
};
