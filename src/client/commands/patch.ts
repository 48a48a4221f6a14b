import { readFile, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { displacedFolders } from '../../patch/displaced.ts';
import { pathText } from '../../patch/listing.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine, sanitize } from '../../protocol/sanitize.ts';
import { ago } from '../duration.ts';
import type { Far } from '../patches/far.ts';
import { applyPatchFile } from '../patches/foreign.ts';
import { asText, pathsFrom } from '../patches/named.ts';
import { waitsFor } from '../patches/queue.ts';
import { patchText, viewPatches } from '../patches/view.ts';
import { farSide, isOwnWorktree, type PatchZone, patchZoneOf } from '../patches/zone.ts';
import { type Place, placeOf } from '../place.ts';
import { conflictLines, conflictsText, reasonLines, shownPath } from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { counted } from '../render/status.ts';
import { KNOWN_ELSE, serverOfZone } from '../server-call.ts';
import { patchesHere } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

const MAX_PATCH_BYTES = 256 * 1024 * 1024;
/** Applications whose displaced files are listed. */
const MAX_LISTED = 20;

/** What the commands about patches share. */
abstract class PatchCommand extends KhloneCommand {
  async patchZone(): Promise<{ place: Place; zone: PatchZone }> {
    const place = await placeOf(this.app, this.caller, { zone: this.zone });
    return { place, zone: patchZoneOf(place.binding, place.worktree, place.config) };
  }

  /** The zone's side where it answers; undefined where there is none, or it is away. */
  async far(zone: PatchZone): Promise<Far | undefined> {
    try {
      return farSide(zone, await serverOfZone(this.app, this.caller, zone.binding, KNOWN_ELSE));
    } catch (thrown) {
      if (!waitsFor(thrown)) throw thrown;
      return undefined;
    }
  }

  keptIn({ place: { repository } }: PatchZone) {
    const place = { worktree: repository.worktree, keep: `${repository.gitDir}/khlone/displaced` };
    return displacedFolders(place);
  }
}

export class PatchListCommand extends PatchCommand {
  static override paths = [['patch'], ['patch', 'list']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'what waits between your worktree and the zone, and what was kept aside',
  });

  override async execute(): Promise<number> {
    const { place, zone } = await this.patchZone();
    const style = this.style('stdout');
    const standing = { cwd: this.caller.cwd, root: place.worktree.root };
    const kept = await this.keptIn(zone);
    const own = isOwnWorktree(zone.binding);
    const view = own ? undefined : await viewPatches(zone.place, await this.far(zone));
    const queued = patchesHere(this.app, zone.binding.zone);
    if (this.json) {
      const { conflicts = [], held = [], ...counts } = view ?? {};
      const told = { ...counts, conflicts: conflictsText(conflicts), held: asText(held) };
      this.give({ ...told, queued, kept: kept.map((one) => ({ ...one, files: asText(one.files) })) });
      return 0;
    }
    const asOf = view?.asOfMs === undefined ? '' : `  (as of ${ago(Date.now() - view.asOfMs)} ago)`;
    const lines = [
      ...(view ? [`out   ${counted(view.toSend, 'file')} to send${asOf}`] : []),
      ...(view ? [`in    ${counted(view.toPull, 'file')} to pull${asOf}`] : []),
      ...(queued.count > 0
        ? [`queued here  ${counted(queued.count, 'sync')} of ${counted(queued.files, 'file')}`]
        : []),
      ...conflictLines(view?.conflicts ?? [], style, standing),
      ...reasonLines('held', view?.held ?? [], style),
      ...(view?.leftOut ?? [])
        .slice(0, MAX_LISTED)
        .map(({ path, why }) => `never travels  ${oneLine(path, 200)}: ${oneLine(why, 200)}`),
      ...(view?.stays ?? [])
        .slice(0, MAX_LISTED)
        .map(({ path, why }) => `stays in the zone  ${oneLine(path, 200)}: ${oneLine(why, 200)}`),
      ...kept.slice(0, MAX_LISTED).flatMap(({ id, atMs, files }) => [
        `kept  ${id}  ${ago(Date.now() - atMs)} ago, ${counted(files.length, 'file')}: ${files
          .slice(0, 3)
          .map(({ path }) => shownPath(path))
          .join(', ')}`,
      ]),
    ];
    if (lines.length === 0) this.say('nothing is under way, and nothing was kept');
    else this.caller.out(`${lines.join('\n')}\n`);
    return 0;
  }
}

/** A zone that is the person's own worktree has no patches under way. */
const assertElsewhere = ({ binding }: PatchZone): void => {
  if (isOwnWorktree(binding))
    throw new KhloneError(
      'usage',
      'this zone is your own worktree: there is no patch',
      'git diff shows its changes',
    );
};

/** Ids that an ambiguous one names. */
const LISTED = 5;
const WHICH = 'in (what a pull brings), out (what a sync sends), or the id of something kept';

export class PatchShowCommand extends PatchCommand {
  static override paths = [['patch', 'show']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'one patch, or where files that were kept aside lie',
    details: WHICH,
  });
  words = Option.Rest();

  override async execute(): Promise<number> {
    const { place, zone } = await this.patchZone();
    const [which = 'in', ...named] = this.words;
    if (which !== 'in' && which !== 'out') return this.showKept(zone, which);
    assertElsewhere(zone);
    const files = pathsFrom(this.caller.cwd, place.worktree.root, named);
    const patch = (await patchText(zone.place, await this.far(zone), which, files)).toString('utf8');
    // A JSON text holds no bytes that are no text: patch export --to gives those.
    if (this.json) this.give({ patch });
    else this.caller.out(sanitize(patch));
    return 0;
  }

  async showKept(zone: PatchZone, id: string): Promise<number> {
    if (id === '') throw new KhloneError('usage', 'which patch?', WHICH);
    const found = (await this.keptIn(zone)).filter((one) => one.id.startsWith(id));
    const [one] = found;
    if (found.length > 1) {
      const ids = found.map((kept) => kept.id).slice(0, LISTED);
      throw new KhloneError('usage', `${oneLine(id, 60)} is the beginning of several ids`, ids.join(', '));
    }
    if (!one) throw new KhloneError('not-found', `no patch ${oneLine(id, 60)}`, WHICH);
    if (this.json) this.give({ ...one, files: asText(one.files) });
    else
      for (const { path, kept } of one.files) this.caller.out(`${shownPath(path)}  ${oneLine(kept, 400)}\n`);
    return 0;
  }
}

export class PatchExportCommand extends PatchCommand {
  static override paths = [['patch', 'export']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'a patch as a file that plain git apply takes',
    examples: [
      ['what a pull would bring', 'khlone patch export --to work.patch'],
      ['what a sync would send', 'khlone patch export out --to work.patch'],
    ],
  });
  to = Option.String('--to', { description: 'the file; without it standard output' });
  words = Option.Rest();

  override async execute(): Promise<number> {
    const { caller } = this;
    const [which = 'in', ...named] = this.words;
    if (which !== 'in' && which !== 'out') throw new KhloneError('usage', 'export what?', 'in or out');
    const { place, zone } = await this.patchZone();
    assertElsewhere(zone);
    const files = pathsFrom(caller.cwd, place.worktree.root, named);
    const patch = await patchText(zone.place, await this.far(zone), which, files);
    if (patch.length === 0) {
      if (this.json) this.give({ patch: '' });
      this.say(`nothing to ${which === 'in' ? 'pull' : 'send'}: no patch was made`);
      return 0;
    }
    if (this.to !== undefined) {
      await writeFile(resolve(caller.cwd, this.to), patch, { flag: 'wx' }).catch((thrown) => {
        const { code } = thrown as NodeJS.ErrnoException;
        throw new KhloneError('usage', `${this.to} cannot be made: ${code}`, 'another --to');
      });
      if (this.json) this.give({ file: this.to, bytes: patch.length });
      this.say(`${mark(this.style('stderr'), 'done')} ${oneLine(this.to, 200)}: ${patch.length} bytes`);
      return 0;
    }
    const text = patch.toString('utf8');
    const isText = Buffer.from(text).equals(patch);
    if (this.json && isText) this.give({ patch: text });
    else if (caller.terminal.stdout) caller.out(sanitize(text));
    else if (isText) caller.out(text);
    else throw new KhloneError('usage', 'this patch holds bytes that are no text', '--to FILE');
    return 0;
  }
}

export class PatchApplyCommand extends PatchCommand {
  static override paths = [['patch', 'apply']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'apply a patch file to your worktree, whole or not at all; what it replaces is kept',
    examples: [['work that a removed zone left', 'khlone patch apply ~/.khlone/server/recovery/z-….patch']],
  });
  file = Option.String();

  override async execute(): Promise<number> {
    const { caller } = this;
    const { zone } = await this.patchZone();
    const isPiped = this.file === '-';
    const patch = await (isPiped ? caller.readStdin(MAX_PATCH_BYTES) : this.readPatch(caller.cwd));
    const { done, refused } = await applyPatchFile(zone.place, patch);
    const style = this.style('stderr');
    if (this.json) this.give({ done: done.map(pathText), refused: asText(refused) });
    for (const line of reasonLines('left', refused, style)) this.say(line);
    this.say(`${mark(style, 'done')} ${counted(done.length, 'file')} changed`);
    return refused.length > 0 ? 3 : 0;
  }

  /** Only a file: a pipe by a name would hold the hub, and has no end that anybody could tell. */
  async readPatch(cwd: string): Promise<Buffer> {
    const path = resolve(cwd, this.file);
    const name = oneLine(this.file, 200);
    try {
      const facts = await stat(path);
      if (facts.isFile() && facts.size <= MAX_PATCH_BYTES) return await readFile(path);
      const why = facts.isFile() ? `is over ${MAX_PATCH_BYTES / 1024 / 1024} MB` : 'is no file';
      throw new KhloneError('usage', `${name} ${why}`, '- reads standard input');
    } catch (thrown) {
      if (thrown instanceof KhloneError) throw thrown;
      const what = `${name} cannot be read: ${(thrown as NodeJS.ErrnoException).code}`;
      throw new KhloneError('not-found', what, 'a file that git diff or khlone patch export wrote');
    }
  }
}
