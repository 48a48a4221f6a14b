import { Command, Option } from 'clipanion';
import { pathText } from '../../patch/listing.ts';
import { sanitize } from '../../protocol/sanitize.ts';
import { ago } from '../duration.ts';
import type { Far } from '../patches/far.ts';
import { pathFrom, pathsFrom } from '../patches/named.ts';
import { waitsFor } from '../patches/queue.ts';
import { conflictText, patchText, viewPatches } from '../patches/view.ts';
import { farSide, isOwnWorktree, type PatchZone, patchZoneOf } from '../patches/zone.ts';
import type { Place } from '../place.ts';
import { placeOf } from '../place.ts';
import type { Standing } from '../render/file-word.ts';
import { nearConflicts } from '../render/near-conflicts.ts';
import { conflictLines } from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { KNOWN_ELSE, serverOfZone } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

export class DiffCommand extends KhloneCommand {
  static override paths = [['diff']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'what a pull would change here, or the conflict in a file',
    details:
      'At a terminal a conflict is shown with three lines around it, in a pipe with the whole file. When the host does not answer, it is told from what was last seen of the zone.',
    examples: [
      ['all of it', 'khlone diff'],
      ['what a sync would change there', 'khlone diff --out'],
    ],
  });
  out = Option.Boolean('--out', false, { description: 'what a sync would change in the zone instead' });
  files = Option.Rest();

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const place = await placeOf(app, caller, { zone: this.zone });
    if (isOwnWorktree(place.binding)) {
      if (this.json) this.give({ patch: '', conflicts: [] });
      this.say('this zone is your own worktree: git diff shows its changes');
      return 0;
    }
    const zone = patchZoneOf(place.binding, place.worktree, place.config);
    const standing = { cwd: caller.cwd, root: place.worktree.root };
    const far = await this.far(zone, place);
    const [file] = this.files;
    if (file !== undefined && this.files.length === 1) {
      const path = pathFrom(caller.cwd, place.worktree.root, file);
      const found = await conflictText(zone.place, far, path);
      if (found) return this.tellConflict(found, standing);
    }
    const files = pathsFrom(caller.cwd, place.worktree.root, this.files);
    const patch = await patchText(zone.place, far, this.out ? 'out' : 'in', files);
    const { conflicts, asOfMs } = await viewPatches(zone.place, far);
    if (this.json) {
      // A JSON text holds no bytes that are no text: patch export gives those.
      const text = patch.toString('utf8');
      const told = conflicts.map(({ path, kind, ranges }) => ({ path: pathText(path), kind, ranges }));
      this.give({ patch: text, conflicts: told, ...(asOfMs !== undefined && { asOfMs }) });
      return 0;
    }
    if (asOfMs !== undefined) this.say(`as of ${ago(Date.now() - asOfMs)} ago`);
    for (const line of conflictLines(conflicts, this.style('stderr'), standing)) this.say(line);
    caller.out(sanitize(patch.toString('utf8')));
    if (patch.length === 0) this.say(`nothing to ${this.out ? 'send' : 'pull'}`);
    return 0;
  }

  /** The zone's side where it answers; what was last seen of it where it does not. */
  async far(zone: PatchZone, { binding }: Place): Promise<Far | undefined> {
    try {
      return farSide(zone, await serverOfZone(this.app, this.caller, binding, KNOWN_ELSE));
    } catch (thrown) {
      if (!waitsFor(thrown)) throw thrown;
      return undefined;
    }
  }

  tellConflict(
    { told, marked }: NonNullable<Awaited<ReturnType<typeof conflictText>>>,
    standing: Standing,
  ): number {
    for (const line of conflictLines([told], this.style('stderr'), standing)) this.say(line);
    const { path, kind, ranges } = told;
    const text = marked?.text.toString('utf8');
    if (this.json) this.give({ path: pathText(path), kind, ranges, text });
    else if (marked && text !== undefined) {
      const shown = this.caller.terminal.stdout ? nearConflicts(text, marked.markerSize) : text;
      this.caller.out(sanitize(shown));
    }
    if (!this.json && !marked)
      this.say(`${mark(this.style('stderr'), 'attention')} ${sanitize(told.message)}`);
    return 0;
  }
}
