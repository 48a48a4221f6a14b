import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { locateTask } from '../find-task.ts';
import { mark } from '../render/receipt.ts';
import { cut } from '../render/status.ts';
import { serverOf, serverOfZone } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

export class QueueCommand extends KhloneCommand {
  static override paths = [['queue'], ['queue', 'list']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'what waits and what runs, in order',
  });
  all = Option.Boolean('--all', false, { description: 'also what has ended' });

  override async execute(): Promise<number> {
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const { tasks } = await call(peer, 'task.list', { zone: binding.zone, ended: this.all, most: 200 });
    const waiting = this.app.outbox.list(binding.host).filter((q) => q.entry.call.name === 'task.add');
    if (this.json) {
      this.give({ tasks, queuedHere: waiting.map((q) => q.entry.call.params) });
      return 0;
    }
    const style = this.style('stdout');
    const width = this.caller.terminal.stdout ? this.caller.terminal.columns : 400;
    const ordered = [...tasks].sort(
      (a, b) => a.clone.localeCompare(b.clone) || (a.position ?? 0) - (b.position ?? 0),
    );
    for (const task of ordered) {
      const flags = task.prioritized ? ' [priority]' : '';
      const why = task.hold ? ` (${oneLine(task.message ?? task.hold, 100)})` : '';
      this.caller.out(
        `${cut(`${task.id}  ${task.clone}  ${task.state}${why}${flags}  ${oneLine(task.title, 120)}`, width, style)}\n`,
      );
    }
    for (const queued of waiting)
      this.caller.out(`${cut(`queued here  ${oneLine(queued.entry.say, 200)}`, width, style)}\n`);
    if (tasks.length + waiting.length === 0) this.say('nothing is queued');
    return 0;
  }
}

class PauseCommand extends KhloneCommand {
  paused = true;

  override async execute(): Promise<number> {
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const answer = await call(peer, 'queue.pause', { zone: binding.zone, paused: this.paused });
    if (this.json) this.give(answer);
    this.say(
      `${mark(this.style('stderr'), 'done')} queue ${this.paused ? 'paused: what runs goes on' : 'goes on'}`,
    );
    return 0;
  }
}

export class QueuePauseCommand extends PauseCommand {
  static override paths = [['queue', 'pause']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'start no further task of this zone',
  });
}

export class QueueResumeCommand extends PauseCommand {
  static override paths = [['queue', 'resume']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'let the queue of this zone go on',
  });
  override paused = false;
}

export class QueueMoveCommand extends KhloneCommand {
  static override paths = [['queue', 'move']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'put a waiting task at a place (1 is next)',
  });
  task = Option.String();
  position = Option.String();

  override async execute(): Promise<number> {
    const position = Number(this.position);
    if (!Number.isInteger(position) || position < 1) {
      throw new KhloneError('usage', `${this.position} is not a place`, 'khlone queue move TASK 1');
    }
    const found = await locateTask(this.app, this.caller, this.task, await this.hereOrNone());
    if (found.type === 'here')
      throw new KhloneError('conflict', `${found.id} was not sent yet`, 'khlone reconnect');
    const { peer } = await serverOf(this.app, this.caller, found.binding.host);
    const { task } = await call(peer, 'queue.move', { task: found.id, position });
    if (this.json) this.give(task);
    this.say(`${mark(this.style('stderr'), 'done')} ${task.id} is at place ${position}`);
    return 0;
  }
}
