import { Command, Option } from 'clipanion';
import { isTold } from '../../patch/left-out.ts';
import { type Path, pathText } from '../../patch/listing.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Binding } from '../bindings.ts';
import { interrupted } from '../caller.ts';
import { lookSoon } from '../patches/counts.ts';
import { asPaths, assertKnown, asText, pathsFrom } from '../patches/named.ts';
import { queueSync, settleStopped, syncZone, waitsFor } from '../patches/queue.ts';
import type { Stepped } from '../patches/steps.ts';
import { isOwnWorktree, type PatchZone, patchZoneOf, wishFor } from '../patches/zone.ts';
import { placeOf } from '../place.ts';
import type { Standing } from '../render/file-word.ts';
import {
  conflictLines,
  conflictsText,
  haltError,
  named,
  queuedLine,
  reasonLines,
  underwayLines,
} from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { QUEUED_ELSE, serverOfZone } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

export class SyncCommand extends KhloneCommand {
  static override paths = [['sync']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'bring your changes to the zone',
    details:
      'Tracked and untracked files count, ignored ones do not, and nothing has to be committed. What both sides changed in other lines is merged; the same lines are a conflict, which waits. When the host does not answer, the present state is queued in order with the tasks.',
    examples: [
      ['everything', 'khlone sync'],
      ['one folder', 'khlone sync src/api'],
      ['both ways, by itself', 'khlone sync --auto'],
    ],
  });
  yes = Option.Boolean('--yes,-y', false, { description: 'go on where khlone would ask first' });
  auto = Option.Boolean('--auto', false, {
    description: 'both ways, by itself, from now on; `--auto off` ends that',
  });
  files = Option.Rest();

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const place = await placeOf(app, caller, { zone: this.zone });
    if (isOwnWorktree(place.binding)) {
      if (this.json) this.give({ sent: [], conflicts: [], held: [], refused: [] });
      this.say('this zone is your own worktree: there is nothing to sync');
      return 0;
    }
    if (this.auto) return this.setAuto(place.binding);
    const zone = patchZoneOf(place.binding, place.worktree, place.config);
    const files = pathsFrom(caller.cwd, place.worktree.root, this.files);
    const style = this.style('stderr');
    caller.lastWords(() => `${mark(style, 'failed')} interrupted: nothing was sent`);
    try {
      const connected = await serverOfZone(app, caller, place.binding, QUEUED_ELSE);
      await app.flush(place.binding.host);
      this.goOn();
      const outcome = await syncZone(
        connected,
        zone,
        wishFor(zone, { ...(files && { files }), yes: this.yes }),
      );
      app.known.touch(place.binding.zone);
      if ('halts' in outcome) throw haltError(outcome.halts);
      // What else happened there, nobody has asked yet.
      if (!outcome.seen) lookSoon(app, place.binding);
      await settleStopped(app, zone);
      const left = { here: outcome.leftOut, there: outcome.seen?.leftOut ?? [] };
      const known = assertKnown(zone.place, outcome.meeting, files, left);
      const unknown = await known.then(() => undefined, asKhloneError);
      const code = this.tell(outcome, { cwd: caller.cwd, root: place.worktree.root }, { files, unknown });
      // A script gets one value, which tells of the fault too.
      if (unknown && !this.json) throw unknown;
      return unknown?.exit ?? code;
    } catch (thrown) {
      if (!waitsFor(thrown)) throw thrown;
      return this.queue(zone, files);
    }
  }

  /** From here on it is sent or queued whether or not somebody waits. */
  goOn(): void {
    if (this.caller.signal.aborted) throw interrupted();
    const sign = mark(this.style('stderr'), 'attention');
    this.caller.lastWords(() => `${sign} the sync goes on: khlone status shows what is left of it`);
  }

  async setAuto(binding: Binding): Promise<number> {
    const { app } = this;
    const word = this.files.join(' ') || 'on';
    if (word !== 'on' && word !== 'off')
      throw new KhloneError('usage', '--auto is about all files', 'khlone sync --auto, or --auto off');
    const known = app.bindings.byZone(binding.zone);
    if (!known)
      throw new KhloneError('not-found', `${binding.address} has no zone yet`, 'khlone init makes it');
    app.bindings.put({ ...known, auto: word === 'on' });
    if (word === 'on') app.auto.start(binding);
    else await app.auto.stop(binding.zone);
    app.known.touch(binding.zone);
    if (this.json) this.give({ zone: binding.address, auto: word === 'on' });
    const what = word === 'on' ? 'patches travel by themselves, both ways' : 'patches wait for sync and pull';
    this.say(`${mark(this.style('stderr'), 'done')} ${what}`);
    return 0;
  }

  async queue(zone: PatchZone, named: readonly Path[] | undefined): Promise<number> {
    this.goOn();
    const queued = await queueSync(this.app, zone, { yes: this.yes, files: named });
    this.app.known.touch(zone.binding.zone);
    if (this.json) this.give({ queued: queued.waits, files: queued.files });
    this.say(queuedLine(queued, zone.binding.host, this.style('stderr')));
    return 0;
  }

  tell(
    outcome: Stepped,
    standing: Standing,
    { files, unknown }: { files: readonly Path[] | undefined; unknown: KhloneError | undefined },
  ): number {
    const style = this.style('stderr');
    const { conflicts, done, refused, meeting } = outcome;
    const held = [...named(meeting.plan.held), ...asPaths(outcome.leftOut.filter(isTold), files)];
    if (this.json) {
      const told = conflictsText(conflicts);
      this.give({
        ...{ sent: done.map(pathText), conflicts: told, held: asText(held), refused: asText(refused) },
        ...(unknown && { unknown: unknown.message }),
      });
    }
    for (const line of conflictLines(conflicts, style, standing)) this.say(line);
    for (const line of underwayLines(outcome.seen ?? {}, style)) this.say(line);
    for (const line of reasonLines('held', held, style)) this.say(line);
    for (const line of reasonLines('not sent', refused, style)) this.say(line);
    const other = conflicts.length > 0 ? ' other' : '';
    this.say(
      done.length > 0
        ? `${mark(style, 'done')} ${done.length}${other} ${done.length === 1 ? 'file' : 'files'} sent`
        : `${mark(style, 'done')} nothing${other ? ' else' : ''} to send`,
    );
    return conflicts.length > 0 || refused.length > 0 ? 3 : 0;
  }
}
