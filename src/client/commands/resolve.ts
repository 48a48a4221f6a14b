import { Command, Option } from 'clipanion';
import { pathText } from '../../patch/listing.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { asText, pathFrom } from '../patches/named.ts';
import { type Choice, resolveConflict } from '../patches/resolve.ts';
import { isOwnWorktree, patchZoneOf } from '../patches/zone.ts';
import { placeOf } from '../place.ts';
import { reasonLines, shownPath } from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { KhloneCommand } from './base.ts';

export class ResolveCommand extends KhloneCommand {
  static override paths = [['resolve']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'decide a conflict between your worktree and the zone',
    details:
      'Works without a link. `--merge` opens both versions with markers in $VISUAL or $EDITOR. What is replaced here is kept aside (khlone patch list); the zone gets your decision with the next khlone sync.',
    examples: [
      ['your version', 'khlone resolve src/auth.ts --keep local'],
      ['the zone’s version', 'khlone resolve src/auth.ts --keep remote'],
      ['line by line', 'khlone resolve src/auth.ts --merge'],
    ],
  });
  file = Option.String();
  keep = Option.String('--keep', { description: 'local or remote' });
  merge = Option.Boolean('--merge', false, { description: 'in your editor, with markers' });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const place = await placeOf(app, caller, { zone: this.zone });
    if (isOwnWorktree(place.binding))
      throw new KhloneError(
        'not-found',
        'this zone is your own worktree: there is no conflict',
        'git status',
      );
    const zone = patchZoneOf(place.binding, place.worktree, place.config);
    const path = pathFrom(caller.cwd, place.worktree.root, this.file);
    const { paths, refused, kept } = await resolveConflict(zone.place, path, this.choice(), caller.cwd);
    app.known.touch(place.binding.zone);
    const style = this.style('stderr');
    if (this.json)
      this.give({
        resolved: refused.length === 0 ? paths.map(pathText) : [],
        refused: asText(refused),
        ...(kept && { kept }),
      });
    for (const line of reasonLines('left', refused, style)) this.say(line);
    if (kept !== undefined) this.say(`  your text is kept: ${oneLine(kept, 400)}`);
    if (refused.length > 0) return 3;
    const next = this.keep === 'remote' ? ', as the zone has it' : '; khlone sync sends it';
    for (const one of paths) this.say(`${mark(style, 'done')} ${shownPath(one)} is decided${next}`);
    return 0;
  }

  choice(): Choice {
    if (this.merge && this.keep === undefined) return { merge: this.editor() };
    if (!this.merge && (this.keep === 'local' || this.keep === 'remote')) return { keep: this.keep };
    throw new KhloneError('usage', 'decide how?', '--keep local, --keep remote or --merge');
  }

  /** The person's own editor, at their own terminal. It may be several words, as git and others take it. */
  editor(): (file: string) => Promise<number> {
    const { caller } = this;
    const { run, env, cwd } = caller;
    if (!run)
      throw new KhloneError(
        'usage',
        '--merge opens an editor, which needs a terminal',
        '--keep local|remote',
      );
    const words = (env.VISUAL || env.EDITOR || 'vi').trim().split(/\s+/u);
    return (file) => run([...words, file], cwd);
  }
}
