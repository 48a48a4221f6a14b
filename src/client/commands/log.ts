import { Command, Option } from 'clipanion';
import { Item } from '../../protocol/calls.ts';
import { createTranscript } from '../../protocol/transcript.ts';
import { fetchTask } from '../await-task.ts';
import { locateTask } from '../find-task.ts';
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
    if (this.task !== undefined) return this.ofTask(this.task);
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const session =
      this.who || this.all ? undefined : sessionFor(this.app, this.caller, binding, this.session).session;
    await this.print(peer, {
      zone: binding.zone,
      ...(this.who && { clone: this.who }),
      ...(session && { session }),
    });
    return 0;
  }

  async ofTask(prefix: string): Promise<number> {
    const found = await locateTask(this.app, this.caller, prefix, await this.hereOrNone());
    if (found.type === 'here') {
      this.say(`${found.id} was not sent yet`);
      return 0;
    }
    const connected = await serverOf(this.app, this.caller, found.binding.host);
    const { task } = await fetchTask(connected, found.id);
    await this.print(connected.peer, { zone: task.zone, task: task.id });
    return 0;
  }

  async print(
    peer: Awaited<ReturnType<typeof serverOf>>['peer'],
    selection: Record<string, string>,
  ): Promise<void> {
    const sub = { ...selection, from: 'start', until: this.follow ? 'never' : 'now' };
    const transcript = createTranscript();
    const print = (lines: readonly string[]): void => {
      // In one piece: a script's output may be many thousand lines, and each piece is a message.
      if (lines.length > 0) this.caller.out(`${lines.join('\n')}\n`);
    };
    for await (const raw of peer.subscribe(sub, this.caller.signal)) {
      const item = Item.safeParse(raw);
      if (!item.success) continue;
      if (this.json) this.give(item.data);
      else print(transcript.take(item.data));
      await this.caller.drained();
    }
    print(transcript.end());
  }
}
