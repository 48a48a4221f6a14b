import { Command } from 'clipanion';
import { DispatchCommand } from './dispatch-command.ts';

export class ActCommand extends DispatchCommand {
  static override paths = [['act']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'hand work to a clone, which may change the zone',
    details:
      'Queues and returns. Words are joined, `--` ends options. Without words a pipe is the prompt; with words stdin is read only if `-` is given too.',
    examples: [
      ['queue work for the hero', 'khlone act "implement auth"'],
      ['a new researcher', 'khlone act "research this" --who researcher++'],
      ['a shell script, without any account', "khlone act --who @sh 'npm test'"],
    ],
  });
  override kind = 'act' as const;
}
