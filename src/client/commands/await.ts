import { Command, Option } from 'clipanion';
import { awaitTask } from '../await-task.ts';
import type { Binding } from '../bindings.ts';
import { durationMs } from '../duration.ts';
import { awayTask, locateTask } from '../find-task.ts';
import { KhloneCommand } from './base.ts';

export class AwaitCommand extends KhloneCommand {
  static override paths = [['await']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'wait for a task; its answer, and only the answer, on stdout',
    details:
      'Ctrl-C ends the waiting; the task goes on. Exit codes are those of the table in `docs/errors.md`.',
    examples: [['wait for a task by a prefix of its id', 'khlone await 7f3k']],
  });
  watch = Option.Boolean('--watch', false, { description: 'progress on stderr' });
  timeout = Option.String('--timeout', { description: 'how long to wait, such as 10m (exit 124)' });
  task = Option.String();

  override async execute(): Promise<number> {
    // It may wait for hours: the node command survives the hub, a shell's own path does not.
    this.caller.handOver?.();
    const timeoutMs = this.timeout === undefined ? undefined : durationMs(this.timeout, '--timeout');
    const { id, binding } = await this.find();
    return awaitTask(this.app, this.caller, binding, {
      task: id,
      answer: true,
      progress: this.watch,
      timeoutMs,
      json: this.json,
      quiet: this.quiet,
    });
  }

  /** The task, and the zone by whose link it is waited for, which may be down. */
  async find(): Promise<{ id: string; binding: Binding }> {
    const { app, caller } = this;
    const here = await this.hereOrNone();
    try {
      const found = await locateTask(app, caller, this.task, here);
      const binding = found.type === 'server' ? found.binding : this.bindingOf(found.queued.entry.host);
      return { id: found.id, binding };
    } catch (thrown) {
      const id = awayTask(app, here?.host, this.task, thrown);
      if (!here) throw thrown;
      return { id, binding: here };
    }
  }
}
