import { Command, Option } from 'clipanion';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Binding } from '../bindings.ts';
import { call } from '../call.ts';
import { locateTask } from '../find-task.ts';
import { type Follow, followJournal } from '../follow-journal.ts';
import { createReader } from '../reader.ts';
import { linkWords } from '../render/link-words.ts';
import { mark } from '../render/receipt.ts';
import { needing, serverOf, serverOfZone } from '../server-call.ts';
import { sessionFor } from '../sessions.ts';
import { openPen } from '../transcript-pen.ts';
import { createWants, insteadOf, oneNamed, wantedBy } from '../wanted.ts';
import { KhloneCommand } from './base.ts';

/** Transcripts of zones elsewhere are read where they are. */
const readThere = (why: string): string => `the transcript cannot be read: ${why}`;

export class LogCommand extends KhloneCommand {
  static override paths = [['log']];
  static override usage = Command.Usage({
    category: 'Observe',
    description: 'the transcript of the current session in this zone',
    examples: [
      ['one task', 'khlone log --task 7f3k'],
      ['all that a clone did', 'khlone log --who mechanic.1'],
    ],
  });
  who = Option.String('--who,--clone', {
    description: 'one clone, the clones of a role, or the hero, in all sessions',
  });
  session = Option.String('--session', { description: 'another session' });
  task = Option.String('--task', { description: 'one task' });
  all = Option.Boolean('--all', false, { description: 'every session of this zone' });
  follow = Option.Boolean('--follow', false, {
    description: 'go on as it happens; with --task until it ends',
  });

  override async execute(): Promise<number> {
    // It may run for hours: the node command survives the hub, a shell's own path does not.
    if (this.follow) this.caller.handOver?.();
    if (this.task !== undefined) return this.ofTask(this.task);
    const binding = await this.here();
    await needing(readThere, () => serverOfZone(this.app, this.caller, binding));
    const session =
      this.who || this.all ? undefined : sessionFor(this.app, this.caller, binding, this.session).session;
    const clone = oneNamed(this.who);
    return this.print(binding, { ...(clone && { clone }), ...(session && { session }) });
  }

  async ofTask(prefix: string): Promise<number> {
    const found = await locateTask(this.app, this.caller, prefix, await this.hereOrNone());
    if (found.type === 'here') {
      this.say(`${found.id} was not sent yet`);
      return 0;
    }
    const connected = await needing(readThere, () => serverOf(this.app, this.caller, found.binding.host));
    const { task } = await call(connected.peer, 'task.get', { task: found.id, brief: true });
    return this.print({ ...found.binding, zone: task.zone }, { task: task.id });
  }

  async print(binding: Binding, select: Follow['select']): Promise<number> {
    const { app, caller } = this;
    const whole = select.task === undefined ? 'never' : 'task';
    const until = this.follow ? whole : 'now';
    const pen = await openPen(app, caller, binding, this.json);
    const follow: Follow = { binding, select, from: pen.after(), until, patient: false };
    const who = this.who === undefined ? () => true : wantedBy(this.who, 'read of');
    const wants = createWants(app, caller, who);
    const reader = createReader(caller);
    let isEmpty = true;
    for await (const heard of followJournal(app, caller, follow, caller.signal)) {
      const words = linkWords(heard, binding.host, this.style('stderr'));
      if (words) this.say(words);
      if (heard.type !== 'item' || !(await wants(binding, heard.item))) continue;
      isEmpty = false;
      pen.write(heard.item);
      if (!(await reader.reads())) return 0;
    }
    pen.end();
    const instead = isEmpty ? insteadOf(app, binding, who) : undefined;
    if (isEmpty && select.session !== undefined) {
      const name = oneLine(select.session, 64);
      this.say(`nothing in session ${name} of this zone; khlone log --all shows every session`);
    }
    if (instead)
      this.say(`${mark(this.style('stderr'), 'attention')} no such clone here; the crew: ${instead}`);
    return 0;
  }
}
