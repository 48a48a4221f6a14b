import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Binding } from '../bindings.ts';
import { call } from '../call.ts';
import { locateTask } from '../find-task.ts';
import { SYNC } from '../patches/queue.ts';
import { mark } from '../render/receipt.ts';
import { refusedTask, refusedWords } from '../render/refused.ts';
import { unreadableLine, type ZoneStatus, zoneLines } from '../render/status.ts';
import { wrapped } from '../render/wrap.ts';
import { serverOf } from '../server-call.ts';
import { wantedBy } from '../wanted.ts';
import { findWorktree } from '../worktree.ts';
import { zoneStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

/** The latest refusals that are told. */
const MAX_REFUSED = 3;

/** The zones with a clone of that name, each with these alone. Throws `not-found` where a crew is known and has none. */
const of = (who: string, statuses: readonly ZoneStatus[]): ZoneStatus[] => {
  const wanted = wantedBy(who, 'tell of');
  const shown = statuses.map((status) => {
    const crew = status.view.crew.filter(wanted);
    const attention = status.view.attention.filter(({ clone }) => crew.some(({ name }) => name === clone));
    return { ...status, view: { ...status.view, crew, attention } };
  });
  const found = shown.filter(({ view }) => view.crew.length > 0);
  const crews = statuses.flatMap(({ view }) => view.crew.map(({ name }) => name));
  if (found.length > 0 || crews.length === 0) return found.length > 0 ? found : shown;
  const hint = `the crew: ${oneLine([...new Set(crews)].join(', '), 300)}`;
  throw new KhloneError('not-found', `no clone ${oneLine(who, 60)}`, hint);
};

export class StatusCommand extends KhloneCommand {
  static override paths = [['status'], ['zone', 'status']];
  static override usage = Command.Usage({
    category: 'Observe',
    description: 'what works, what waits, what needs you',
    details:
      'A worktree with a zone shows the zone; outside of a repository every zone is shown. When the link is down it answers from what is known and says how old that is.',
  });
  all = Option.Boolean('--all', false, { description: 'every zone of this machine' });
  who = Option.String('--who', { description: 'one clone, the clones of one role, or the hero' });
  task = Option.String('--task', { description: 'one task' });
  scope = Option.String({ required: false });

  override async execute(): Promise<number> {
    if (this.task !== undefined) return this.oneTask(this.task);
    const found = await this.bindings();
    const statuses = await Promise.all(found.map((b) => zoneStatus(this.app, this.caller, b)));
    const shown = this.who === undefined ? statuses : of(this.who, statuses);
    if (this.json) this.give(shown);
    else {
      const style = this.style('stdout');
      const width = this.caller.terminal.stdout ? this.caller.terminal.columns : Number.POSITIVE_INFINITY;
      const name = (await this.isHere(found)) ? 'short' : 'whole';
      for (const status of shown) this.caller.out(`${zoneLines(status, style, width, name).join('\n')}\n`);
      const all = this.app.outbox.refused();
      if (all.length > MAX_REFUSED) {
        const line = `${mark(style, 'failed')} ${all.length - MAX_REFUSED} more were refused before these`;
        this.caller.out(`${line}\n`);
      }
      for (const refused of all.slice(-MAX_REFUSED)) {
        const words = refused.say === SYNC ? refusedWords(refused, style) : refusedTask(refused);
        const line = `${mark(style, 'failed')} ${words}`;
        this.caller.out(`${wrapped(line, width, style).join('\n')}\n`);
      }
      const odd = unreadableLine(this.app.outbox.unreadable());
      if (odd) this.caller.out(`${wrapped(`${mark(style, 'attention')} ${odd}`, width, style).join('\n')}\n`);
    }
    return 0;
  }

  /** The one zone that the person stands in needs no org and repo before its branch. */
  async isHere(found: readonly Binding[]): Promise<boolean> {
    if (found.length !== 1 || this.zone !== undefined || this.caller.env.KHLONE_ZONE) return false;
    const worktree = await findWorktree(this.caller.cwd).catch(() => undefined);
    return worktree?.root === found[0]?.root;
  }

  async bindings(): Promise<Binding[]> {
    const known = this.app.bindings.all();
    if (this.scope !== undefined && !['orchestrator', 'site', 'zone'].includes(this.scope)) {
      throw new KhloneError('usage', `status of what? ${this.scope}`, 'orchestrator, site or zone');
    }
    if (this.all || this.scope === 'orchestrator') return this.some(known);
    const named = this.zone ?? (this.caller.env.KHLONE_ZONE || undefined);
    const worktree = named ? undefined : await findWorktree(this.caller.cwd).catch(() => undefined);
    if (named === undefined && !worktree) return this.some(known);
    const here = await this.here().catch((error) => {
      if (named !== undefined || this.scope === 'zone') throw error;
      return undefined;
    });
    if (here && this.scope !== 'site') return [here];
    const site = (here?.address ?? worktree?.address ?? '').replace(/@.*$/, '');
    return this.some(known.filter((b) => b.address.replace(/@.*$/, '') === site));
  }

  some(found: Binding[]): Binding[] {
    if (found.length === 0) this.say('no zones yet: khlone act "…" in a repository makes one');
    return found;
  }

  async oneTask(prefix: string): Promise<number> {
    const found = await locateTask(this.app, this.caller, prefix, await this.hereOrNone());
    if (found.type === 'here') {
      if (this.json) this.give({ id: found.id, state: 'queued-here', host: found.queued.entry.host });
      else
        this.caller.out(
          `${found.id} queued here for ${oneLine(found.queued.entry.host, 100)}: ${oneLine(found.queued.entry.say, 200)}\n`,
        );
      return 0;
    }
    const { peer } = await serverOf(this.app, this.caller, found.binding.host);
    const { task } = await call(peer, 'task.get', { task: found.id, brief: true });
    if (this.json) {
      this.give(task);
      return 0;
    }
    const lines = [
      `${task.id} ${task.state}${task.hold ? ` (${oneLine(task.hold, 40)})` : ''}`,
      `${task.kind} by ${task.clone}: ${oneLine(task.title, 200)}`,
      ...(task.message ? [oneLine(task.message, 500)] : []),
      ...(task.hint ? [`↳ ${oneLine(task.hint, 300)}`] : []),
    ];
    this.caller.out(`${lines.join('\n  ')}\n`);
    return 0;
  }
}
