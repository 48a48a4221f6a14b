import { Command, Option } from 'clipanion';
import { DispatchCommand } from './dispatch-command.ts';

export class DispatchToCommand extends DispatchCommand {
  static override paths = [['dispatch']];
  static override usage = Command.Usage({ category: 'Dispatch', description: 'act --who, by another name' });
  override kind = 'act' as const;
  to = Option.String('--to', { description: 'the clone' });

  override async execute(): Promise<number> {
    if (this.to !== undefined) this.who = this.to;
    return super.execute();
  }
}
