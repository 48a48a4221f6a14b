import { Command, Option } from 'clipanion';
import { asKhloneError } from '../../protocol/error.ts';
import { call } from '../call.ts';
import { locateTask } from '../find-task.ts';
import { mark } from '../render/receipt.ts';
import { serverOf } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

const WORDS: Readonly<Record<string, string>> = {
  cancelled: 'cancelled',
  cancelling: 'is being stopped',
  done: 'is already done',
  failed: 'has already failed',
};

export class CancelCommand extends KhloneCommand {
  static override paths = [['cancel']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'stop a task, or take it off its queue',
    details:
      'What a running task has done so far stays; its transcript too. Off line, the wish is queued like a task.',
  });
  task = Option.String();

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const found = await locateTask(app, caller, this.task, await this.hereOrNone());
    if (found.type === 'here' && !found.queued.entry.sentTo) {
      app.outbox.remove(found.queued);
      return this.tell(found.id, 'cancelled');
    }
    const host = found.type === 'server' ? found.binding.host : found.queued.entry.host;
    try {
      const { peer } = await serverOf(app, caller, host);
      const { task } = await call(peer, 'task.cancel', { task: found.id });
      return this.tell(task.id, task.state);
    } catch (thrown) {
      if (asKhloneError(thrown).code !== 'unreachable') throw thrown;
      const params = { task: found.id };
      app.outbox.put({
        host,
        queuedMs: Date.now(),
        say: `cancel ${found.id}`,
        call: { name: 'task.cancel', params },
      });
      return this.tell(found.id, 'queued here');
    }
  }

  tell(task: string, state: string): number {
    if (this.json) this.give({ task, state });
    this.say(`${mark(this.style('stderr'), 'done')} ${task} ${WORDS[state] ?? state}`);
    return 0;
  }
}
