import { Command, Option } from 'clipanion';
import { type Left, type LeftOut, staysThere } from '../../patch/left-out.ts';
import { type Path, pathText } from '../../patch/listing.ts';
import type { Flag } from '../../patch/policy.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Binding } from '../bindings.ts';
import { interrupted } from '../caller.ts';
import { pullCommits } from '../patches/commits.ts';
import type { Look } from '../patches/far.ts';
import { agreeIfThere, type Far } from '../patches/far.ts';
import { isNamed } from '../patches/judge.ts';
import { asPaths, assertKnown, asText, pathsFrom } from '../patches/named.ts';
import { resolveConflict } from '../patches/resolve.ts';
import { pull, type Stepped } from '../patches/steps.ts';
import {
  farSide,
  isOwnWorktree,
  type PatchZone,
  patchZoneAt,
  patchZoneOf,
  wishFor,
} from '../patches/zone.ts';
import { placeOf } from '../place.ts';
import {
  conflictLines,
  conflictsText,
  haltError,
  named,
  reasonLines,
  shownPath,
  underwayLines,
} from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { nextOf } from '../render/tell-error.ts';
import { needing, serverOf } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

/** What is told behind the files that came: a branch that has to stay, and files that nobody has. */
type Faults = { stays: KhloneError | undefined; unknown: KhloneError | undefined };
/** What a pull of one zone did; `files`: what the person named. */
type Pulled = Stepped & { seen: Look; flags: Flag[]; forced: Path[]; commits: string[] } & Faults & {
    files: readonly Path[] | undefined;
  };

const leftIn = ({ leftOut, seen }: { leftOut: LeftOut[]; seen: Look }): Left => ({
  ...{ here: leftOut, there: seen.leftOut },
});

export class PullCommand extends KhloneCommand {
  static override paths = [['pull']];
  static override usage = Command.Usage({
    category: 'Patches',
    description: 'bring the zone’s changes to your worktree',
    details:
      'What both sides changed in other lines is merged; the same lines are a conflict: nothing is overwritten, and the rest comes. Commits that clones made arrive as refs/remotes/khlone/ZONE/BRANCH; your branch, index and HEAD stay where they are.',
    examples: [
      ['what this zone has', 'khlone pull'],
      ['also move the branch forward to the clones’ commits', 'khlone pull --commits'],
      ['the zone’s version of every conflict; yours is kept aside', 'khlone pull --force'],
    ],
  });
  all = Option.Boolean('--all', false, { description: 'every zone, into its own worktree' });
  commits = Option.Boolean('--commits', false, {
    description: 'fast-forward the branch to the zone’s commits',
  });
  force = Option.Boolean('--force', false, {
    description: 'take the zone’s version of what is in conflict; yours is saved first',
  });
  yes = Option.Boolean('--yes,-y', false, { description: 'go on where khlone would ask first' });
  files = Option.Rest();

  /** What became of each zone, for programs. */
  readonly told: unknown[] = [];
  isBegun = false;

  override async execute(): Promise<number> {
    if (this.all) return this.pullAll();
    const { app, caller } = this;
    const place = await placeOf(app, caller, { zone: this.zone });
    if (isOwnWorktree(place.binding)) {
      if (this.json) this.give({ pulled: [], forced: [], conflicts: [], held: [], refused: [], flags: [] });
      this.say('this zone is your own worktree: there is nothing to pull');
      return 0;
    }
    const zone = patchZoneOf(place.binding, place.worktree, place.config);
    return this.pullOne(zone, pathsFrom(caller.cwd, place.worktree.root, this.files));
  }

  async pullAll(): Promise<number> {
    if (this.files.length > 0)
      throw new KhloneError(
        'usage',
        '--all is about all files',
        'khlone pull FILE in the worktree of a zone',
      );
    const elsewhere = this.app.bindings.all().filter((one) => !isOwnWorktree(one));
    if (elsewhere.length === 0) this.say('no zone is elsewhere: there is nothing to pull');
    let worst = 0;
    for (const binding of elsewhere) {
      this.say(oneLine(binding.address, 200));
      try {
        worst = Math.max(worst, await this.pullOne(await patchZoneAt(this.app.home, binding), undefined));
      } catch (thrown) {
        const error = asKhloneError(thrown);
        if (error.code === 'interrupted') throw error;
        const { code, message } = error;
        const hint = nextOf(error);
        const style = this.style('stderr');
        this.say(`${mark(style, 'failed')} ${oneLine(message, 500)}`);
        if (hint !== undefined) this.say(`  ${mark(style, 'next')} ${oneLine(hint, 500)}`);
        this.told.push({ zone: binding.address, code, message, ...(hint !== undefined && { hint }) });
        worst = Math.max(worst, error.exit);
      }
    }
    if (this.json) this.give(this.told);
    return worst;
  }

  async pullOne(zone: PatchZone, files: string[] | undefined): Promise<number> {
    const { app, caller } = this;
    const { binding } = zone;
    const failed = mark(this.style('stderr'), 'failed');
    const more = this.isBegun ? 'more ' : '';
    caller.lastWords(() => `${failed} interrupted: nothing ${more}was pulled`);
    const connected = await needing(
      (why) => `nothing was pulled: ${why}`,
      () => serverOf(app, caller, binding.host),
    );
    await app.flush(binding.host);
    const far = farSide(zone, connected);
    const wish = wishFor(zone, { ...(files && { files }), yes: this.yes, begin: () => this.begin() });
    const outcome = await pull(zone.place, far, wish);
    if ('halts' in outcome) throw haltError(outcome.halts);
    const forced = this.force ? await this.takeTheirs(zone, outcome, files) : [];
    const { commits, stays } = await this.fetchCommits(zone, far);
    const { head, tree } = outcome.seen;
    if (head && outcome.isClear) await agreeIfThere(far, { tree, head });
    app.auto.seen(binding.zone);
    app.known.touch(binding.zone);
    const known = assertKnown(zone.place, outcome.meeting, files, leftIn(outcome));
    const unknown = await known.then(() => undefined, asKhloneError);
    const code = this.tell(binding, { ...outcome, forced, commits, stays, unknown, files });
    const fault = stays ?? unknown;
    // A script gets one value, which tells of the fault too.
    if (fault && !this.json) throw fault;
    return fault?.exit ?? code;
  }

  /** From here on it is written whether or not somebody waits. */
  begin(): void {
    if (this.caller.signal.aborted) throw interrupted();
    this.isBegun = true;
    const sign = mark(this.style('stderr'), 'attention');
    this.caller.lastWords(() => `${sign} the pull goes on: khlone status shows what is left of it`);
  }

  /** The files are here already, so a branch that has to stay, or a line that broke, is told behind them. */
  async fetchCommits(
    zone: PatchZone,
    far: Far,
  ): Promise<{ commits: string[]; stays: KhloneError | undefined }> {
    try {
      return { commits: await pullCommits(zone, far, { forward: this.commits }), stays: undefined };
    } catch (thrown) {
      const error = asKhloneError(thrown);
      if (error.code !== 'conflict' && error.code !== 'unreachable') throw error;
      return { commits: [], stays: error };
    }
  }

  /** Decides for the zone: every conflict, or those that the person named. */
  async takeTheirs(
    zone: PatchZone,
    { conflicts }: Stepped,
    files: readonly Path[] | undefined,
  ): Promise<string[]> {
    const taken: string[] = [];
    for (const { path, paths: all } of conflicts) {
      if (files && !all.some((one) => isNamed(files, one))) continue;
      const { paths, refused } = await resolveConflict(zone.place, path, { keep: 'remote' });
      if (refused.length === 0) taken.push(...paths);
    }
    return taken;
  }

  tell(binding: Binding, outcome: Pulled): number {
    const style = this.style('stderr');
    const { done, refused, meeting, flags, forced, commits, stays, unknown, files } = outcome;
    const [held, stay] = [named(meeting.plan.held), asPaths(staysThere(leftIn(outcome)), files)];
    const isForced = new Set(forced);
    const conflicts = outcome.conflicts.filter(({ paths }) => !paths.every((path) => isForced.has(path)));
    this.told.push({
      zone: binding.address,
      pulled: done.map(pathText),
      forced: forced.map(pathText),
      conflicts: conflictsText(conflicts),
      held: asText([...held, ...stay]),
      refused: asText(refused),
      flags: asText(flags),
      commits,
      ...(stays && { stays: stays.message }),
      ...(unknown && { unknown: unknown.message }),
    });
    if (this.json && !this.all) this.give(this.told[0]);
    const standing = { cwd: this.caller.cwd, root: binding.root };
    for (const line of conflictLines(conflicts, style, standing)) this.say(line);
    for (const line of underwayLines(outcome.seen, style)) this.say(line);
    for (const line of reasonLines('held', held, style)) this.say(line);
    for (const line of reasonLines('not brought', stay, style)) this.say(line);
    for (const line of reasonLines('left', refused, style)) this.say(line);
    for (const line of reasonLines('look at', flags, style)) this.say(line);
    for (const line of commits) this.say(`${mark(style, 'done')} ${line}`);
    for (const path of forced.slice(0, 20)) {
      this.say(`${mark(style, 'done')} ${shownPath(path)} is the zone’s; yours is kept: khlone patch list`);
    }
    const other = conflicts.length > 0 ? ' other' : '';
    this.say(
      done.length > 0
        ? `${mark(style, 'done')} ${done.length}${other} ${done.length === 1 ? 'file' : 'files'} pulled`
        : `${mark(style, 'done')} nothing${other ? ' else' : ''} to pull`,
    );
    return conflicts.length + refused.length > 0 ? 3 : 0;
  }
}
