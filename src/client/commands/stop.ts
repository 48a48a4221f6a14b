import { Command, Option } from 'clipanion';
import { asKhloneError } from '../../protocol/error.ts';
import { call } from '../call.ts';
import { mark } from '../render/receipt.ts';
import { KhloneCommand } from './base.ts';

const STOP_DEADLINE_MS = 120_000;
const TELL_AFTER_MS = 1_000;

export class StopCommand extends KhloneCommand {
  static override paths = [['stop']];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'end hub and local server; clones go on with --keep',
    details: 'What was queued is kept and goes on with the next command.',
  });
  keep = Option.Boolean('--keep', false, { description: 'let running clones go on' });

  override async execute(): Promise<number> {
    const link = this.app.link('local');
    const lender = { env: this.caller.env, ask: undefined };
    // A brain may finish the sentence that it is at; the person should know what is waited for.
    const waits = setTimeout(
      () => this.say(`${mark(this.style('stderr'), 'queued')} waiting for what runs to end`),
      TELL_AFTER_MS,
    );
    const ended = await link
      .connect(lender)
      .then(({ peer }) => call(peer, 'stop', { keep: this.keep }, { timeoutMs: STOP_DEADLINE_MS }))
      .then((answer) => answer.ended)
      .catch((thrown) => {
        if (asKhloneError(thrown).code === 'timeout') throw thrown;
        return 0;
      })
      .finally(() => clearTimeout(waits));
    if (this.json) this.give({ ended });
    this.say(`${mark(this.style('stderr'), 'done')} stopped${this.keep ? '; running clones go on' : ''}`);
    this.app.stop();
    return 0;
  }
}
