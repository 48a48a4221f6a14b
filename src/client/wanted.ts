import { parseWho } from '../protocol/address.ts';
import type { CloneView, Item } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller } from './caller.ts';
import { zoneStatus } from './zone-status.ts';

/** Whom a token means to somebody who only looks: a clone, the clones of a role, or the hero. */

export type Wanted = (clone: Pick<CloneView, 'name' | 'role' | 'hero'>) => boolean;

/** Throws `usage` for a token that asks for a new clone or names only a brain. `to` is what it is wanted for. */
export const wantedBy = (token: string, to: string): Wanted => {
  const { role, index, brain, spawn } = parseWho(token);
  if (!role || brain || spawn) {
    const shown = JSON.stringify(oneLine(token, 80));
    const hint = 'a clone, a role or the hero: mechanic.1, mechanic, hero';
    throw new KhloneError('usage', `${shown} names no clone to ${to}`, hint);
  }
  if (role === 'clone' && index === 0) return ({ hero }) => hero === true;
  return (clone) => (index === undefined ? clone.role === role : clone.name === `${role}.${index}`);
};

/** The one clone that a token names; its lines are picked where they lie, those of a role or of the hero here. */
export const oneNamed = (token: string | undefined): string | undefined =>
  token !== undefined && /[1-9]\d*$/.test(token) ? token : undefined;

const crewOf = (app: App, { zone }: Binding): readonly CloneView[] => app.known.get(zone)?.view.crew ?? [];

/** Whether an item is wanted. A clone that is not known was enrolled a moment ago, or is gone: its zone is asked once. */
export const createWants = (app: App, caller: Caller, who: Wanted) => {
  const asked = new Set<string>();
  return async (binding: Binding, { clone }: Item): Promise<boolean> => {
    if (clone === undefined) return true;
    const find = () => crewOf(app, binding).find(({ name }) => name === clone);
    const key = `${binding.zone} ${clone}`;
    if (!find() && !asked.has(key)) await zoneStatus(app, caller, binding);
    asked.add(key);
    return who(find() ?? { name: clone, role: clone.replace(/\.\d+$/, '') });
  };
};

/** A name that nobody has may be a slip, or a clone that is yet to come: who is there instead. */
export const insteadOf = (app: App, binding: Binding, who: Wanted): string | undefined => {
  const crew = crewOf(app, binding);
  if (crew.length === 0 || crew.some(who)) return undefined;
  return oneLine(crew.map(({ name }) => name).join(', '), 300);
};
