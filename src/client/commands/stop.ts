import { Command, Option } from 'clipanion';
import { asKhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { mark } from '../render/receipt.ts';
import { KhloneCommand } from './base.ts';

const STOP_DEADLINE_MS = 120_000;
const TELL_AFTER_MS = 1_000;
/** A server that cannot be started, or that ended first, leaves nothing to be stopped. */
const NONE_THERE: ReadonlySet<string> = new Set(['unreachable', 'shutting-down', 'start-failed']);
/** Clones that are named while their end is waited for. */
const MAX_NAMED = 5;

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
    const running = this.running();
    const waits = setTimeout(() => {
      // What began just before is known by now, and what is ending may be known no more.
      const who = running ?? this.running() ?? 'what runs';
      this.say(`${mark(this.style('stderr'), 'queued')} waiting for ${who} to end`);
    }, TELL_AFTER_MS);
    const ended = await link
      .connect(lender)
      .then(({ peer }) => call(peer, 'stop', { keep: this.keep }, { timeoutMs: STOP_DEADLINE_MS }))
      .then((answer) => answer.ended)
      .catch((thrown) => {
        if (!NONE_THERE.has(asKhloneError(thrown).code)) throw thrown;
        return 0;
      })
      .finally(() => clearTimeout(waits));
    if (this.json) this.give({ ended });
    this.say(`${mark(this.style('stderr'), 'done')} stopped${this.keep ? '; running clones go on' : ''}`);
    this.app.stop();
    return 0;
  }

  /** Who is at work on this machine as far as the hub knows, and on what. */
  running(): string | undefined {
    const local = this.app.bindings.all().filter(({ host }) => host === 'local');
    const active = local
      .flatMap(({ zone }) => this.app.known.get(zone)?.view.crew ?? [])
      .filter((clone) => clone.state === 'active');
    const names = active.slice(0, MAX_NAMED).map(({ name, title }) => {
      return `${oneLine(name, 60)}${title ? ` (${oneLine(title, 60)})` : ''}`;
    });
    const more = active.length > names.length ? [`${active.length - names.length} more`] : [];
    return [...names, ...more].join(', ') || undefined;
  }
}
