import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { call } from '../call.ts';
import { serverOf } from '../server-call.ts';
import { oneLine } from '../terminal/sanitize.ts';
import { KhloneCommand } from './base.ts';

export class ListCommand extends KhloneCommand {
  static override paths = [['list'], ['worksite']];
  static override usage = Command.Usage({
    category: 'Observe',
    description: 'sites, zones, crews or tasks of this machine',
  });
  what = Option.String({ required: false });

  override async execute(): Promise<number> {
    const { app } = this;
    const bindings = app.bindings.all();
    const what = this.what ?? 'zones';
    const rows: string[] = [];
    if (what === 'zones')
      rows.push(
        ...bindings.map(
          (b) => `${b.address}  ${b.mode === 'local' ? 'local' : `${b.mode} ${b.host}`}  ${b.root}`,
        ),
      );
    else if (what === 'sites') rows.push(...new Set(bindings.map((b) => b.address.replace(/@.*$/, ''))));
    else if (what === 'crews') {
      for (const b of bindings)
        rows.push(
          ...(app.known.get(b.zone)?.view.crew ?? []).map(
            (c) => `${b.address}  ${c.name}  ${c.brain}  ${c.state}`,
          ),
        );
    } else if (what === 'tasks') {
      const hosts = [...new Set(bindings.map((b) => b.host))];
      const lists = await Promise.all(
        hosts.map(async (host) => {
          const { peer } = await serverOf(app, this.caller, host);
          return (await call(peer, 'task.list', { ended: true, most: 100 })).tasks;
        }),
      );
      rows.push(...lists.flat().map((t) => `${t.id}  ${t.clone}  ${t.state}  ${t.title}`));
    } else throw new KhloneError('usage', `list ${what}?`, 'sites, zones, crews or tasks');
    if (this.json) this.give(rows);
    else for (const row of rows) this.caller.out(`${oneLine(row, 600)}\n`);
    return 0;
  }
}
