import { Command } from 'clipanion';
import { CancelCommand } from './cancel.ts';

export class QueueDropCommand extends CancelCommand {
  static override paths = [['queue', 'drop']];
  static override usage = Command.Usage({
    category: 'Dispatch',
    description: 'take a task off its queue (as cancel)',
  });
}
