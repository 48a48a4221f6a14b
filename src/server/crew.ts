import type { Who } from '../protocol/address.ts';
import type { Policy } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';

/** Who gets a task: a pure function from the crew and the `--who` token to a clone, found or to be enrolled. */

export type Member = { role: string; index: number; brain: string; load: number };
export type Choice =
  | { type: 'found'; role: string; index: number }
  | { type: 'enroll'; role: string; index: number | undefined; brain: string | undefined };

export const cloneName = (clone: { role: string; index: number }): string => `${clone.role}.${clone.index}`;

const crewWords = (crew: readonly Member[]): string =>
  crew.length === 0
    ? 'the crew is empty'
    : `the crew: ${crew.map((m) => `${cloneName(m)} on ${m.brain}`).join(', ')}`;

const assertRole = (role: string, policy: Policy): void => {
  if (Object.hasOwn(policy.roles, role)) return;
  throw new KhloneError(
    'not-found',
    `no role named ${role}`,
    `known roles: ${Object.keys(policy.roles).join(', ')}`,
  );
};

const leastBusy = (crew: readonly Member[]): Member | undefined =>
  [...crew].sort((a, b) => a.load - b.load || a.index - b.index)[0];

const exactly = (crew: readonly Member[], role: string, index: number, brain: string | undefined): Choice => {
  const member = crew.find((m) => m.role === role && m.index === index);
  if (!member) throw new KhloneError('not-found', `no clone ${role}.${index} in this zone`, crewWords(crew));
  if (brain && brain !== member.brain) {
    throw new KhloneError(
      'wrong-brain',
      `${role}.${index} is on ${member.brain}, not ${brain}`,
      crewWords(crew),
    );
  }
  return { type: 'found', role, index };
};

/**
 * The clone that `who` means. The hero (`clone.0`) is the first clone of the hero role that was enrolled as hero;
 * `hero` names it once it exists. A brain of `undefined` in `enroll` means: the hero's, else the first that is ready.
 */
export const choose = (
  crew: readonly Member[],
  hero: Member | undefined,
  who: Who | undefined,
  policy: Policy,
): Choice => {
  const heroBrain = hero?.brain ?? policy.heroBrain ?? policy.defaultBrain;
  if (!who || (who.role === 'clone' && who.index === 0)) {
    if (hero && who?.brain && who.brain !== hero.brain)
      return exactly(crew, hero.role, hero.index, who.brain);
    if (hero) return { type: 'found', role: hero.role, index: hero.index };
    assertRole(policy.heroRole, policy);
    return { type: 'enroll', role: policy.heroRole, index: undefined, brain: who?.brain ?? heroBrain };
  }
  const role = who.role ?? hero?.role ?? policy.heroRole;
  if (who.index !== undefined) return exactly(crew, role, who.index, who.brain);
  assertRole(role, policy);
  const brain = who.brain ?? heroBrain;
  if (who.spawn) return { type: 'enroll', role, index: undefined, brain };
  const found = leastBusy(crew.filter((m) => m.role === role && (brain === undefined || m.brain === brain)));
  return found
    ? { type: 'found', role: found.role, index: found.index }
    : { type: 'enroll', role, index: undefined, brain };
};
