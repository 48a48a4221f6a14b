import { Command, Option } from 'clipanion';
import type { App } from '../app.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../cli.ts';

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
    this.caller.out(`${JSON.stringify(value)}\n`);
  }
}
