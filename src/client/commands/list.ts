import { Command, Option } from 'clipanion';
import type { TaskView } from '../../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { mark } from '../render/receipt.ts';
import { columns } from '../render/status.ts';
import { serverOf } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

/** What a script reads, and the cells of the line that a person reads. */
type Row = { value: unknown; cells: string[] };

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

  /** From what was last seen, so that it answers off line too. */
  crews(): Row[] {
    return this.app.bindings.all().flatMap(({ zone, address }) =>
      (this.app.known.get(zone)?.view.crew ?? []).map(({ name, brain, state }) => ({
        value: { zone: address, clone: name, brain, state },
        cells: [address, name, brain, state],
      })),
    );
  }

  /** Of every host that answers; of the others it is said that they do not. */
  async tasks(): Promise<Row[]> {
    const hosts = [...new Set(this.app.bindings.all().map(({ host }) => host))];
    const lists = await Promise.all(hosts.map((host) => this.tasksOn(host)));
    return lists.flat().map((task) => ({
      value: task,
      cells: [task.id, task.clone, task.state, task.title],
    }));
  }

  async tasksOn(host: string): Promise<TaskView[]> {
    try {
      const { peer } = await serverOf(this.app, this.caller, host);
      return (await call(peer, 'task.list', { ended: true, most: MOST_TASKS })).tasks;
    } catch (thrown) {
      const error = asKhloneError(thrown);
      if (error.code === 'interrupted') throw error;
      this.say(
        `${mark(this.style('stderr'), 'attention')} ${oneLine(host, 100)}: ${oneLine(error.message, 300)}`,
      );
      return [];
    }
  }
}
