import { Command } from 'clipanion';
import { DispatchCommand } from './dispatch-command.ts';

export class AskCommand extends DispatchCommand {
  static override paths = [['ask']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'ask a clone, which may not change anything',
    details: 'Queues and returns; with `--await` the answer, and only the answer, goes to stdout.',
    examples: [
      ['queue a question', 'khlone ask "where is the config read?"'],
      ['the answer into a file', 'khlone ask "summarize auth" --await > summary.md'],
    ],
  });
  override kind = 'ask' as const;
}
