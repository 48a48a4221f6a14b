import { Command, Option } from 'clipanion';
import { asKhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { interrupted } from '../caller.ts';
import { awayTask, type Located, locateTask } from '../find-task.ts';
import { mark } from '../render/receipt.ts';
import { serverOf } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

const WORDS: Readonly<Record<string, string>> = {
  cancelled: 'cancelled',
  cancelling: 'is being stopped',
  done: 'is already done',
  failed: 'has already failed',
};

const HINT = 'its whole id is queued; or khlone reconnect, which tries now';

const hostOf = (found: Located): string =>
  found.type === 'server' ? found.binding.host : found.queued.entry.host;

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
    const failed = mark(this.style('stderr'), 'failed');
    caller.lastWords(() => `${failed} interrupted: nothing was cancelled`);
    const here = await this.hereOrNone();
    const found = await locateTask(app, caller, this.task, here).catch((thrown: unknown) =>
      awayTask(app, here?.host, this.task, thrown, HINT),
    );
    if (typeof found === 'string') return this.queueHere(found, here?.host ?? 'local');
    this.assertWanted();
    if (found?.type === 'here' && (!found.queued.entry.sentTo || found.queued.entry.held)) {
      app.outbox.remove(found.queued);
      return this.tell(found.id, 'cancelled');
    }
    const { id } = found;
    const host = hostOf(found);
    try {
      const { peer } = await serverOf(app, caller, host);
      this.assertWanted();
      // It may reach the host all the same: once more from here is the same wish.
      caller.lastWords(() => this.keep(id, host, 'had not answered'));
      // It may be on its way there: a cancel must not overtake its task.
      if (found.type === 'here') await app.flush(host);
      const { task } = await call(peer, 'task.cancel', { task: id });
      return this.tell(task.id, task.state);
    } catch (thrown) {
      if (caller.signal.aborted || asKhloneError(thrown).code !== 'unreachable') throw thrown;
      return this.queueHere(id, host);
    }
  }

  /** Who was told that nothing was cancelled is right, though an answer came then. */
  assertWanted(): void {
    if (this.caller.signal.aborted) throw interrupted();
  }

  queueHere(task: string, host: string): number {
    this.assertWanted();
    const line = this.keep(task, host, 'unreachable');
    if (this.json) this.give({ task, state: 'queued-here' });
    this.say(line);
    return 0;
  }

  /** Puts the wish into the outbox, and answers the line that says so. */
  keep(task: string, host: string, why: string): string {
    const call = { name: 'task.cancel' as const, params: { task } };
    this.app.outbox.put({ host, queuedMs: Date.now(), say: `cancel ${task}`, call });
    void this.app.flush(host).catch(() => {});
    const sign = mark(this.style('stderr'), 'attention');
    return `${sign} cancel ${task} [queued here: ${oneLine(host, 200)} ${why}]`;
  }

  tell(task: string, state: string): number {
    if (this.json) this.give({ task, state });
    this.say(`${mark(this.style('stderr'), 'done')} ${task} ${WORDS[state] ?? state}`);
    return 0;
  }
}
