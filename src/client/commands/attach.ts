import { Command, Option } from 'clipanion';
import type { Sight } from '../../protocol/attach.ts';
import type { CloneView } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { styleOf } from '../caller.ts';
import { serverOfZone } from '../server-call.ts';
import { wantedBy } from '../wanted.ts';
import { KhloneCommand } from './base.ts';

const LISTED = 20;

const listOf = (crew: readonly CloneView[]): string => {
  const names = crew.slice(0, LISTED).map(({ name }) => name);
  const more = crew.length > LISTED ? `, and ${crew.length - LISTED} more` : '';
  return names.length > 0 ? `the crew: ${names.join(', ')}${more}` : 'khlone act "…" enrolls the first clone';
};

/** The clone that is meant: by its name, by a role that only one has, as the hero, or the only one. */
const cloneOf = (crew: readonly CloneView[], asked: string | undefined): string => {
  const meant = crew.filter(asked === undefined ? () => true : wantedBy(asked, 'attach to'));
  const [only] = meant;
  if (only && meant.length === 1) return only.name;
  const [code, why] =
    asked === undefined
      ? (['usage', crew.length === 0 ? 'no clones yet' : 'which clone?'] as const)
      : ([
          'not-found',
          `${meant.length > 1 ? 'several clones are' : 'no clone'} ${oneLine(asked, 60)}`,
        ] as const);
  throw new KhloneError(code, why, listOf(crew));
};

export class AttachCommand extends KhloneCommand {
  static override paths = [['attach'], ['crew', 'attach']];
  static override usage = Command.Usage({
    category: 'Crew',
    description: 'look at a clone at work, or open a shell in its worktree',
    details:
      'The view has the size of this terminal and its own scrollback; several people may look at once. `~.` at the start of a line leaves, also when the link is dead; `~^Z` suspends; `~?` shows the keys. Ctrl-D leaves a view; in a shell it is the shell’s. After a drop it goes on by itself. The clone goes on in any case.',
    examples: [
      ['look at a clone', 'khlone attach mechanic.1'],
      ['a shell where the clones work', 'khlone attach --shell'],
    ],
  });
  shell = Option.Boolean('--shell', false, { description: 'a shell of your own in the zone’s worktree' });
  clone = Option.String({ required: false });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    if (!caller.attach || caller.env.TERM === 'dumb') {
      throw new KhloneError(
        'usage',
        'attach needs a terminal that can draw',
        'khlone log --follow works anywhere',
      );
    }
    // Before any question is asked for nothing: the shell's own way has no terminal to give.
    caller.handOver?.();
    const binding = await this.here();
    const { peer } = await serverOfZone(app, caller, binding);
    const { zone } = await call(peer, 'zone.get', { zone: binding.zone });
    const crew = zone?.crew ?? [];
    const clone = this.shell && this.clone === undefined ? undefined : cloneOf(crew, this.clone);
    const sight: Sight = this.shell || clone === undefined ? { kind: 'shell' } : { kind: 'view', clone };
    caller.attach({
      ...{ zone: binding.zone, host: binding.host, sight },
      name: sight.kind === 'view' ? sight.clone : `the shell of @${oneLine(binding.branch, 120)}`,
      utf8: styleOf(caller, 'stdout').utf8,
      quiet: this.quiet || this.json,
    });
    return 0;
  }
}
