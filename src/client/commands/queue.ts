import { Command, Option } from 'clipanion';
import type { TaskView } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { call } from '../call.ts';
import { ago } from '../duration.ts';
import { locateTask } from '../find-task.ts';
import { waitsFor } from '../patches/queue.ts';
import { mark } from '../render/receipt.ts';
import { counted, cut } from '../render/status.ts';
import { ASKED_ONCE, serverOf, serverOfZone } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

/** A reading command answers from what is known rather than wait for a host that does not answer. */
const ANSWER_WITHIN_MS = 2_000;

export class QueueCommand extends KhloneCommand {
  static override paths = [['queue'], ['queue', 'list']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'what waits and what runs, in order',
    details: 'When the host does not answer, it shows what waits here.',
  });
  all = Option.Boolean('--all', false, { description: 'also what has ended' });

  override async execute(): Promise<number> {
    const binding = await this.here();
    const there = await this.there(binding);
    const tasks = there ?? [];
    const waiting = tasksHere(this.app, binding.zone);
    if (this.json) {
      this.give({ tasks, queuedHere: waiting.map(({ task }) => task), ...(!there && { answered: false }) });
      return 0;
    }
    if (!there) this.say(this.lastSeen(binding));
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
    for (const { task, say } of waiting)
      this.caller.out(`${cut(`${task.id}  queued here  ${oneLine(say, 200)}`, width, style)}\n`);
    if (tasks.length + waiting.length === 0) this.say(`nothing is queued${there ? '' : ' here'}`);
    return 0;
  }

  /** The tasks that the zone's server knows; undefined where it does not answer. */
  async there(binding: Binding): Promise<TaskView[] | undefined> {
    try {
      const { peer } = await serverOfZone(this.app, this.caller, binding, ASKED_ONCE);
      const wish = { zone: binding.zone, ended: this.all, most: 200 };
      return (await call(peer, 'task.list', wish, { timeoutMs: ANSWER_WITHIN_MS })).tasks;
    } catch (thrown) {
      if (!waitsFor(thrown)) throw thrown;
      return undefined;
    }
  }

  lastSeen({ host, zone }: Binding): string {
    const seen = this.app.known.get(zone);
    const counts = (seen?.view.crew ?? []).map(({ queued, state }) => queued + (state === 'active' ? 1 : 0));
    const total = counts.reduce((sum, one) => sum + one, 0);
    const then = seen ? `: it had ${counted(total, 'task')} ${ago(Date.now() - seen.atMs)} ago` : '';
    return `${mark(this.style('stderr'), 'attention')} ${oneLine(host, 100)} does not answer${then}`;
  }
}

type TaskHere = { task: { id: string }; say: string };

/** The tasks of a zone that wait here to be sent, in order. */
const tasksHere = (app: App, zone: string): TaskHere[] =>
  app.outbox.list().flatMap(({ entry: { call: waiting, say } }) => {
    return waiting.name === 'task.add' && waiting.params.zone.id === zone
      ? [{ task: waiting.params, say }]
      : [];
  });

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
