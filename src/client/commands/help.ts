import { Command, Option } from 'clipanion';
import { KhloneCommand } from './base.ts';

export class HelpCommand extends KhloneCommand {
  static override paths = [['help'], Command.Default];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'all commands, or one of them',
    examples: [['one command', 'khlone help queue move']],
  });
  words = Option.Rest();

  override async execute(): Promise<number> {
    this.caller.out(this.context.help(this.words));
    return 0;
  }
}

export class VersionCommand extends KhloneCommand {
  static override paths = [['--version'], ['-v'], ['version']];

  override async execute(): Promise<number> {
    this.caller.out(`${this.app.version}\n`);
    return 0;
  }
}
