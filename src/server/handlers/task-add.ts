import { createHash, randomUUID } from 'node:crypto';
import { findBrain } from '../../brains/registry.ts';
import { parseWho } from '../../protocol/address.ts';
import type { AnswerOf, Params, Policy } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { PROMPT_MAX_BYTES } from '../../protocol/limits.ts';
import { choose, cloneName } from '../crew.ts';
import type { Hall } from '../hall.ts';
import { logoutNote } from '../logout.ts';
import type { Store, Tx } from '../store/store.ts';
import { insertTask, type TaskRow, taskRow, viewOf } from '../store/tasks.ts';
import { type CrewMember, crewOf, enroll, findOrMakeZone, type ZoneRow, zoneRow } from '../store/zones.ts';
import { readBody } from './route.ts';

/** Adding a task. What its receipt promises is committed when this answers. */

export type TaskDeps = {
  hall: Hall;
  zonesDir: string;
  expandPath(path: string): string;
  /** One line on how acts and asks run on this host, told at a zone's first act. */
  viewNote(kind: 'ask' | 'act', policy: Policy): Promise<string | undefined>;
  /** Throws `disk-low` when nothing more may be accepted. */
  assertDisk(): void;
  /** The brain that an unnamed one means, looked for before any transaction: a probe takes its time. */
  fallbackBrain(zone: string, policy: Policy, who: string | undefined): Promise<string | undefined>;
};

type Add = Params<'task.add'>;

const TITLE_CHARS = 200;
/** Zones whose first act and ask are remembered; a forgotten one is looked up again. */
const MAX_REMEMBERED = 10_000;

export const titleOf = (prompt: string): string => {
  const line = prompt.trim().split('\n', 1)[0] ?? '';
  return line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS - 1)}…` : line;
};

/** Without the session: a repeat may find that its shell has another one by now, and is the same task all the same. */
const hashOf = ({ kind, zone, who, prioritize, limitMs }: Add, prompt: string): string =>
  createHash('sha256')
    .update(JSON.stringify([kind, prompt, zone.id, who ?? '', prioritize, limitMs ?? 0]))
    .digest('hex');

type Member = CrewMember & { index: number; load: number };

/** The clone for a task: found or enrolled, within the zone's limits. */
export const cloneFor = (
  store: Store,
  zone: ZoneRow,
  policy: Policy,
  who: string | undefined,
  fallbackBrain: string | undefined,
): { clone: CrewMember; enrolled: boolean } => {
  const crew: Member[] = crewOf(store, zone.id).map((c) => ({ ...c, index: c.idx, load: c.live }));
  const hero = crew.find((c) => c.hero === 1);
  const choice = choose(crew, hero, who === undefined ? undefined : parseWho(who), policy);
  if (choice.type === 'found') {
    const clone = crew.find((c) => c.role === choice.role && c.idx === choice.index);
    if (!clone) throw new KhloneError('internal', `no row for ${choice.role}.${choice.index}`);
    return { clone, enrolled: false };
  }
  // A name that means nothing is told first: making room for it would not help.
  const brain = choice.brain ?? fallbackBrain;
  if (!brain) throw new KhloneError('brain-missing', 'no brain was named and none is ready', 'khlone doctor');
  const isSh = findBrain(brain, policy.brains).brain.name === 'sh';
  if (crew.length >= policy.maxClones) {
    throw new KhloneError(
      'clone-limit',
      `this zone has ${crew.length} of at most ${policy.maxClones} clones`,
      'khlone crew del CLONE, or raise crew.limits.max_clones in khlone.yml',
    );
  }
  const isHero = !hero && isHeroWho(who, isSh);
  const clone = enroll(store, { zone: zone.id, role: choice.role, brain, hero: isHero }, Date.now());
  return { clone, enrolled: true };
};

/**
 * The first clone that nobody named is the zone's hero; so is one named only by its brain, but not on sh: words meant
 * for an AI must not be run as a script because a script was run before.
 */
const isHeroWho = (who: string | undefined, isSh: boolean): boolean => {
  if (who === undefined) return true;
  const parsed = parseWho(who);
  return parsed.role === 'clone' || (parsed.role === undefined && !parsed.spawn && !isSh);
};

const assertRoom = (clone: CrewMember, policy: Policy): void => {
  if (clone.live < policy.maxQueue) return;
  throw new KhloneError(
    'queue-full',
    `${cloneName({ role: clone.role, index: clone.idx })} has ${clone.live} of at most ${policy.maxQueue} tasks`,
    'khlone queue, or raise crew.limits.max_queue in khlone.yml',
  );
};

type Added = {
  row: TaskRow;
  zone: ZoneRow;
  enrolled: boolean;
  made: boolean;
  repeated: boolean;
  ahead: number;
};

/** The same id with the same body is the same task, however often it arrives; another body is refused. */
const known = (store: Store, add: Add, hash: string): Added | undefined => {
  const row = taskRow(store, add.id);
  if (!row) return undefined;
  const zone = zoneRow(store, row.zone);
  if (row.hash === hash && zone) {
    return { row, zone, enrolled: false, made: false, repeated: true, ahead: 0 };
  }
  if (row.hash === hash) {
    throw new KhloneError('conflict', `the zone of ${add.id} was deleted since`, 'khlone act sends it anew');
  }
  throw new KhloneError('id-reused', `${add.id} was sent before with another body`, 'use a new nonce');
};

const addTask = (
  deps: TaskDeps,
  tx: Tx,
  add: Add,
  prompt: string,
  hash: string,
  brain: string | undefined,
): Added => {
  const { store } = deps.hall;
  const old = known(store, add, hash);
  if (old) return old;
  deps.assertDisk();
  const now = Date.now();
  const spec = { ...add.zone, path: deps.expandPath(add.zone.path) };
  const { zone, made } = findOrMakeZone(store, deps.zonesDir, spec, add.policy, now);
  const { clone, enrolled } = cloneFor(store, zone, add.policy, add.who, brain);
  assertRoom(clone, add.policy);
  const task = {
    ...{ id: add.id, hash, zone: zone.id, clone, kind: add.kind, prompt, title: titleOf(prompt) },
    ...{ session: add.session, prioritized: add.prioritize, limit_ms: add.limitMs ?? null },
    ...{ uuid: randomUUID(), retry_of: null },
    repeatable: findBrain(clone.brain, add.policy.brains).brain.capabilities.replaysAsk,
  };
  const row = insertTask(store, tx, task, now);
  return { row, zone, enrolled, made, repeated: false, ahead: clone.live };
};

/** Whether a zone never had a task of this kind. What was seen once is remembered: the rows are many. */
const createFirsts = (store: Store): ((zone: string, kind: Add['kind']) => boolean) => {
  const seen = new Set<string>();
  return (zone, kind) => {
    const key = `${kind} ${zone}`;
    if (seen.has(key)) return false;
    const sql = 'SELECT 1 FROM tasks WHERE zone = ? AND kind = ? LIMIT 1';
    if (store.get(sql, zone, kind) === undefined) return true;
    if (seen.size >= MAX_REMEMBERED) seen.clear();
    seen.add(key);
    return false;
  };
};

/** What a person should know who waits for this task. */
const notesOf = (zone: ZoneRow, note: string | undefined): string[] => [
  ...(note === undefined ? [] : [note]),
  ...(zone.state === 'halted' ? ['the zone is halted: khlone init starts it again'] : []),
  ...(zone.paused === 1 ? ['the queue is paused: khlone queue resume lets it go on'] : []),
];

export type AddTask = (
  add: Add,
  body: AsyncIterable<Uint8Array> | undefined,
) => Promise<AnswerOf<'task.add'>>;

export const createAdd = (deps: TaskDeps): AddTask => {
  const { hall } = deps;
  const { store } = hall;
  const isFirst = createFirsts(store);
  return async (add, body) => {
    const prompt = add.prompt ?? (body ? (await readBody(body, PROMPT_MAX_BYTES)).toString('utf8') : '');
    if (prompt.trim() === '') throw new KhloneError('usage', 'the task is empty', 'khlone act "what to do"');
    const hash = hashOf(add, prompt);
    const brain = await deps.fallbackBrain(add.zone.id, add.policy, add.who);
    const note = isFirst(add.zone.id, add.kind) ? await deps.viewNote(add.kind, add.policy) : undefined;
    const added = await store.write((tx) => addTask(deps, tx, add, prompt, hash, brain));
    hall.wake(added.row.clone);
    return {
      task: viewOf(added.row, added.ahead),
      enrolled: added.enrolled,
      zoneMade: added.made,
      repeated: added.repeated,
      needsEnvironment: hall.environmentOf(added.zone.id) === undefined,
      needsCode: added.zone.state === 'preparing',
      notes: added.repeated
        ? []
        : [...notesOf(added.zone, note), ...(added.made ? await logoutNote(process.env) : [])],
    };
  };
};
