import { Command, Option } from 'clipanion';
import type { TaskView } from '../../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { ago } from '../duration.ts';
import { mark } from '../render/receipt.ts';
import { columns } from '../render/status.ts';
import { KNOWN_ELSE, serverOf } from '../server-call.ts';
import { knownStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

/** What a script reads, and the cells of the line that a person reads. */
type Row = { value: unknown; cells: string[] };

const rowOf = (task: Pick<TaskView, 'id' | 'clone' | 'state' | 'title'>): Row => ({
  value: task,
  cells: [task.id, task.clone, task.state, task.title],
});

const MOST_TASKS = 100;
const CELL_CHARS = 400;

export class ListCommand extends KhloneCommand {
  static override paths = [['list'], ['worksite']];
  static override usage = Command.Usage({
    category: 'Observe',
    description: 'sites, zones, crews or tasks of this machine',
  });
  what = Option.String({ required: false });

  override async execute(): Promise<number> {
    const rows = await this.rows(this.what ?? 'zones');
    if (this.json) this.give(rows.map((row) => row.value));
    else {
      const cells = rows.map((row) => row.cells.map((cell) => oneLine(cell, CELL_CHARS)));
      for (const line of columns(cells)) this.caller.out(`${line}\n`);
    }
    return 0;
  }

  rows(what: string): Row[] | Promise<Row[]> {
    if (what === 'sites') return this.sites();
    if (what === 'zones') return this.zones();
    if (what === 'crews') return this.crews();
    if (what === 'tasks') return this.tasks();
    throw new KhloneError('usage', `list ${what}?`, 'sites, zones, crews or tasks');
  }

  sites(): Row[] {
    const names = new Set(this.app.bindings.all().map(({ address }) => address.replace(/@.*$/, '')));
    return [...names].map((site) => ({ value: site, cells: [site] }));
  }

  zones(): Row[] {
    return this.app.bindings.all().map(({ address, mode, host, root }) => ({
      value: { address, mode, host, root },
      cells: [address, mode === 'local' ? 'local' : `${mode} ${host}`, root],
    }));
  }

  /** From what was last seen, so that it answers off line too; how old that is, is said once for each host. */
  crews(): Row[] {
    const told = new Set<string>();
    return this.app.bindings.all().flatMap((binding) => {
      const { view, ageMs, host, link } = knownStatus(this.app, binding);
      if (ageMs > 0 && !told.has(host)) this.warn(host, `${link}, as of ${ago(ageMs)} ago`);
      told.add(host);
      return view.crew.map(({ name, brain, state }) => ({
        value: { zone: binding.address, clone: name, brain, state, ...(ageMs > 0 && { ageMs }) },
        cells: [binding.address, name, brain, state],
      }));
    });
  }

  /** Of every host that answers; of the others what its zones were last seen at. */
  async tasks(): Promise<Row[]> {
    const hosts = [...new Set(this.app.bindings.all().map(({ host }) => host))];
    return (await Promise.all(hosts.map((host) => this.tasksOn(host)))).flat();
  }

  async tasksOn(host: string): Promise<Row[]> {
    try {
      const { peer } = await serverOf(this.app, this.caller, host, KNOWN_ELSE);
      const { tasks } = await call(peer, 'task.list', { ended: true, most: MOST_TASKS });
      return tasks.map((task) => rowOf(task));
    } catch (thrown) {
      const error = asKhloneError(thrown);
      if (error.code === 'interrupted') throw error;
      return this.lastSeenOn(host, error);
    }
  }

  /** What the clones of a host worked on, and what waited for a person: of the rest only its server knows. */
  lastSeenOn(host: string, why: KhloneError): Row[] {
    const seen = this.app.bindings.all().flatMap((one) => {
      const known = one.host === host ? this.app.known.get(one.zone) : undefined;
      return known ? [known] : [];
    });
    const oldest = Math.min(...seen.map(({ atMs }) => atMs));
    const asOf = seen.length > 0 ? `: what runs or needs you, as of ${ago(Date.now() - oldest)} ago` : '';
    this.warn(host, `${oneLine(why.message, 300)}${asOf}`);
    return seen.flatMap(({ view, atMs }) => {
      const ageMs = Date.now() - atMs;
      const active = view.crew.flatMap(({ name: clone, task: id, title = '', state }) =>
        id && state === 'active' ? [{ id, clone, state, title, ageMs }] : [],
      );
      return [...active, ...view.attention.map((task) => ({ ...task, ageMs }))].map((task) => rowOf(task));
    });
  }

  warn(host: string, words: string): void {
    const name = words.startsWith(host) ? '' : `${oneLine(host, 100)}: `;
    this.say(`${mark(this.style('stderr'), 'attention')} ${name}${words}`);
  }
}
