import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { jsonLine } from '../../protocol/sanitize.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { type Caller, type Style, styleOf } from '../caller.ts';
import type { Context } from '../cli.ts';
import { boundPlace } from '../place.ts';

/** What all commands take, and how they print: values on stdout, all else on stderr. */
export abstract class KhloneCommand extends Command<Context> {
  zone = Option.String('--zone', {
    description: 'the zone: org/repo@branch, repo@branch, @branch, or a path',
  });
  json = Option.Boolean('--json', false, {
    description: 'one JSON value on stdout; lines of JSON for streams',
  });
  quiet = Option.Boolean('--quiet', false, { description: 'only the value that a script would use' });

  get app(): App {
    return this.context.app;
  }

  get caller(): Caller {
    return this.context.caller;
  }

  /** A line for the person: not with --quiet or --json. */
  say(line: string): void {
    if (!this.quiet && !this.json) this.caller.err(`${line}\n`);
  }

  /** The one value of --json. */
  give(value: unknown): void {
    this.caller.out(`${jsonLine(value)}\n`);
  }

  style(stream: 'stdout' | 'stderr'): Style {
    return styleOf(this.caller, stream);
  }

  /** The zone of the caller's place. Throws `not-found` where it has none yet. */
  here(): Promise<Binding> {
    return boundPlace(this.app, this.caller, { zone: this.zone });
  }

  /** The zone of the caller's place, or nothing outside of one. */
  async hereOrNone(): Promise<Binding | undefined> {
    if (this.zone !== undefined) return this.here();
    return this.here().catch(() => undefined);
  }

  bindingOf(host: string): Binding {
    const binding = this.app.bindings.all().find((b) => b.host === host);
    if (binding) return binding;
    throw new KhloneError('not-found', `no zone on ${host} is known any more`, 'khlone init');
  }
}
