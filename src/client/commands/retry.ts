import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { taskIdOf } from '../../protocol/id.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { locateTask, refusalOf } from '../find-task.ts';
import type { Queued } from '../outbox.ts';
import { addressOf, mark } from '../render/receipt.ts';
import { serverOfZone } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

export class RetryCommand extends KhloneCommand {
  static override paths = [['retry']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'dispatch an ended task again, or let a held one go on',
    details:
      'A task of unknown outcome goes on in its session, with a note to look first at what is already done.',
  });
  task = Option.String();

  override async execute(): Promise<number> {
    const found = await locateTask(this.app, this.caller, this.task, await this.hereOrNone());
    if (found.type === 'here' && found.queued.entry.held) return this.sendAgain(found.queued, found.id);
    if (found.type === 'here') {
      throw new KhloneError('conflict', `${found.id} was not sent yet`, 'khlone reconnect sends it');
    }
    const { peer } = await serverOfZone(this.app, this.caller, found.binding);
    const { task } = await call(peer, 'task.retry', { task: found.id, id: taskIdOf(this.caller.nonce) });
    if (this.json) this.give({ task: task.id, state: task.state, clone: task.clone });
    if (this.quiet) this.caller.out(`${task.id}\n`);
    const style = this.style('stderr');
    const address = addressOf(found, this.zone);
    this.say(`${mark(style, 'done')} ${task.id} ${mark(style, 'to')} ${task.clone} (${address}) [retry]`);
    return 0;
  }

  /**
   * It may have reached a server whose state is gone; a person says that it is to be sent all the same. Throws why the
   * server that is there would not take it.
   */
  async sendAgain(queued: Queued, id: string): Promise<number> {
    const { outbox } = this.app;
    const { sentTo: _sent, held: _held, ...entry } = queued.entry;
    // A cancel that was refused goes by the same name.
    outbox.forgive(id);
    outbox.update(queued, entry);
    await this.app.flush(entry.host).catch(() => {});
    const refused = outbox.refused().find((one) => one.id === id);
    if (refused) throw refusalOf(refused);
    const waits = outbox.list(entry.host).some(({ file }) => file === queued.file);
    if (this.json) this.give({ task: id, state: waits ? 'queued-here' : 'queued' });
    if (this.quiet) this.caller.out(`${id}\n`);
    const where = waits ? ` [queued here: ${oneLine(entry.host, 200)} unreachable]` : ' [retry]';
    this.say(`${mark(this.style('stderr'), waits ? 'attention' : 'done')} ${id}${where}`);
    return 0;
  }
}
