import { Command, Option } from 'clipanion';
import { createTranscript } from '../../protocol/transcript.ts';
import { fetchTask } from '../await-task.ts';
import type { Binding } from '../bindings.ts';
import { locateTask } from '../find-task.ts';
import { type Follow, followJournal } from '../follow-journal.ts';
import { createReader } from '../reader.ts';
import { linkWords } from '../render/link-words.ts';
import { serverOf, serverOfZone } from '../server-call.ts';
import { sessionFor } from '../sessions.ts';
import { KhloneCommand } from './base.ts';

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
  who = Option.String('--who,--clone', { description: 'one clone, in all its sessions' });
  session = Option.String('--session', { description: 'another session' });
  task = Option.String('--task', { description: 'one task' });
  all = Option.Boolean('--all', false, { description: 'every session of this zone' });
  follow = Option.Boolean('--follow', false, { description: 'go on as it happens' });

  override async execute(): Promise<number> {
    // It may run for hours: the node command survives the hub, a shell's own path does not.
    if (this.follow) this.caller.handOver?.();
    if (this.task !== undefined) return this.ofTask(this.task);
    const binding = await this.here();
    await serverOfZone(this.app, this.caller, binding);
    const session =
      this.who || this.all ? undefined : sessionFor(this.app, this.caller, binding, this.session).session;
    return this.print(binding, { ...(this.who && { clone: this.who }), ...(session && { session }) });
  }

  async ofTask(prefix: string): Promise<number> {
    const found = await locateTask(this.app, this.caller, prefix, await this.hereOrNone());
    if (found.type === 'here') {
      this.say(`${found.id} was not sent yet`);
      return 0;
    }
    const connected = await serverOf(this.app, this.caller, found.binding.host);
    const { task } = await fetchTask(connected, found.id);
    return this.print({ ...found.binding, zone: task.zone }, { task: task.id });
  }

  async print(binding: Binding, select: Follow['select']): Promise<number> {
    const until = this.follow ? 'never' : 'now';
    const follow: Follow = { binding, select, from: 'start', until, patient: false };
    const transcript = createTranscript();
    const reader = createReader(this.caller);
    const print = (lines: readonly string[]): void => {
      // In one piece: a script's output may be many thousand lines, and each piece is a message.
      if (lines.length > 0) this.caller.out(`${lines.join('\n')}\n`);
    };
    for await (const heard of followJournal(this.app, this.caller, follow, this.caller.signal)) {
      const words = linkWords(heard, binding.host, this.style('stderr'));
      if (words) this.say(words);
      if (heard.type !== 'item') continue;
      if (this.json) this.give(heard.item);
      else print(transcript.take(heard.item));
      if (!(await reader.reads())) return 0;
    }
    print(transcript.end());
    return 0;
  }
}
