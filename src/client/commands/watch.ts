import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { VERBOSITIES, type Verbosity } from '../../protocol/event-lines.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Binding } from '../bindings.ts';
import { mark } from '../render/receipt.ts';
import { KNOWN_ELSE, serverOfZone } from '../server-call.ts';
import { readUserConfig } from '../user-config.ts';
import { oneNamed, wantedBy } from '../wanted.ts';
import { type WatchWish, watchZones } from '../watch.ts';
import { KhloneCommand } from './base.ts';

/** Zones watched at once: each holds a reader on its server. */
const MAX_ZONES = 64;

export class WatchCommand extends KhloneCommand {
  static override paths = [['watch']];
  static override usage = Command.Usage({
    category: 'Observe',
    description: 'what the clones do, while they do it',
    details:
      'At a terminal the state of the zone stays in the last rows and events scroll by above it; in a pipe each event is a line. A lost link only pauses it: what happened meanwhile follows, once and in order. Ctrl-C ends the watching, the work goes on.\n\n`quiet` shows what ended and what waits for you, `normal` what is said and done, `verbose` also what tools answer, `raw` every event as it is.',
    examples: [
      ['one clone', 'khlone watch --who mechanic.1'],
      ['all zones, for a script', 'khlone watch --all --json'],
    ],
  });
  who = Option.String('--who', { description: 'one clone, the clones of one role, or the hero' });
  all = Option.Boolean('--all', false, { description: 'every zone of this machine' });
  verbosity = Option.String('--verbosity', {
    description: 'quiet, normal, verbose or raw (else `khlone config get verbosity`)',
  });

  override async execute(): Promise<number> {
    // It may run for hours: the node command survives the hub, a shell's own path does not.
    this.caller.handOver?.();
    const verbosity = await this.howMuch();
    const who = this.who === undefined ? () => true : wantedBy(this.who, 'watch');
    const zones = this.all ? this.everyZone() : [await this.here()];
    const all = this.all ? () => this.everyZone() : undefined;
    if (zones.length === 0) {
      this.say('no zones yet: khlone act "…" in a repository makes one');
      return 0;
    }
    await this.bringEnvironment(zones);
    const clone = oneNamed(this.who);
    await watchZones(this.app, this.caller, { zones, all, who, clone, verbosity, ...this.form() });
    return 0;
  }

  toldOfMany = false;

  form(): Pick<WatchWish, 'json' | 'quiet'> {
    return { json: this.json, quiet: this.quiet };
  }

  async howMuch(): Promise<Verbosity> {
    if (this.quiet && this.verbosity === undefined) return 'quiet';
    const word = this.verbosity ?? (await readUserConfig(this.app.home.root)).verbosity ?? 'normal';
    const known = VERBOSITIES.find((one) => one === word);
    if (known) return known;
    throw new KhloneError('usage', `--verbosity ${oneLine(word, 60)}?`, VERBOSITIES.join(', '));
  }

  /** Those that were used last first; told once where they are too many. */
  everyZone(): Binding[] {
    const all = this.app.bindings.all().sort((a, b) => b.usedMs - a.usedMs);
    const isNews = all.length > MAX_ZONES && !this.toldOfMany && !this.caller.repeated;
    this.toldOfMany ||= isNews;
    if (isNews)
      this.say(
        `${mark(this.style('stderr'), 'attention')} the ${MAX_ZONES} of ${all.length} zones that were used last`,
      );
    return all.slice(0, MAX_ZONES);
  }

  /** A person at the zone's own worktree may be asked by its host, and brings the environment that tasks may wait for. */
  async bringEnvironment(zones: readonly Binding[]): Promise<void> {
    const [only] = zones;
    if (this.all || !only || this.caller.repeated) return;
    await serverOfZone(this.app, this.caller, only, KNOWN_ELSE).catch((thrown: unknown) => {
      if (!(thrown instanceof KhloneError) || thrown.code !== 'unreachable') throw thrown;
    });
  }
}
