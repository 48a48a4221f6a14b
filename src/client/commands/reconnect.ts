import { Command, Option } from 'clipanion';
import { pathText } from '../../patch/listing.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { App } from '../app.ts';
import { connectWithin } from '../dispatch.ts';
import { type Sent, takeSent } from '../flush.ts';
import { knownCounts } from '../patches/counts.ts';
import { SYNC } from '../patches/queue.ts';
import { shownPath } from '../render/patches.ts';
import { mark } from '../render/receipt.ts';
import { refusedTask, refusedWords } from '../render/refused.ts';
import { counted, percent } from '../render/status.ts';
import { zoneStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

/** A connection that is there has this long to prove it. */
const VERIFY_MS = 2_000;
const CONNECT_WITHIN_MS = 15_000;

/** Refused tasks that are named before the rest is counted. */
const MAX_REFUSED = 3;
/** Conflicts that are named before the rest is counted. */
const MAX_CONFLICTS = 5;

type Outcome =
  | {
      host: string;
      connected: true;
      sent: Omit<Sent, 'refused'>;
      refused: string[];
      held: number;
      conflicts: string[];
    }
  | { host: string; connected: false; code: string; message: string };

const heldFor = (app: App, host: string): number =>
  app.outbox.list(host).filter(({ entry }) => entry.held).length;

export class ReconnectCommand extends KhloneCommand {
  static override paths = [['reconnect']];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'connect to the zone’s host now and send what waits',
    details: 'Passphrases, passwords and second factors are asked at this terminal.',
  });
  host = Option.String({ required: false });

  override async execute(): Promise<number> {
    const here = await this.hereOrNone();
    const queued = this.app.outbox.list().map((q) => q.entry.host);
    const hosts = this.host ? [this.host] : [...new Set([...(here ? [here.host] : []), ...queued])];
    if (hosts.length === 0) throw new KhloneError('usage', 'connect to which host?', 'khlone reconnect HOST');
    let worst = 0;
    const outcomes: Outcome[] = [];
    for (const host of hosts) {
      try {
        outcomes.push(await this.reconnect(host));
      } catch (thrown) {
        const error = asKhloneError(thrown);
        if (hosts.length === 1) throw error;
        const failed = mark(this.style('stderr'), 'failed');
        this.caller.err(`${failed} ${oneLine(host, 100)}: ${oneLine(error.message, 500)}\n`);
        outcomes.push({ host, connected: false, code: error.code, message: error.message });
        worst = error.exit;
      }
    }
    if (this.json) this.give(outcomes);
    return worst;
  }

  /** Connects to one host and sends what waits. Throws what connecting throws, and what ended the sending. */
  async reconnect(host: string): Promise<Outcome> {
    const { app, caller } = this;
    const style = this.style('stderr');
    // A connection that only looks alive would make this wait; one that answers is kept.
    await app.link(host).verify(VERIFY_MS);
    const connected = await connectWithin(app.link(host), caller, CONNECT_WITHIN_MS);
    this.say(`${mark(style, 'done')} connected to ${oneLine(host, 100)}`);
    await this.tellActive(host);
    await app.flush(host);
    const { refused, ...sent } = takeSent(connected);
    const held = heldFor(app, host);
    const stopped = app.outbox.refused().filter((one) => one.host === host && one.say === SYNC);
    const words = [
      ...(sent.tasks > 0 ? [counted(sent.tasks, 'task')] : []),
      ...(sent.cancels > 0 ? [counted(sent.cancels, 'cancel')] : []),
    ];
    const synced = sent.files > 0 ? [`synced ${counted(sent.files, 'file')}`] : [];
    const did = [...(words.length > 0 ? [`sent ${words.join(', ')}`] : []), ...synced];
    if (did.length > 0) this.say(`${mark(style, 'done')} ${did.join(', ')}`);
    for (const one of stopped) this.say(`${mark(style, 'attention')} ${refusedWords(one, style)}`);
    this.tellRefused(refused);
    const conflicts = this.tellConflicts(host);
    if (held > 0) {
      const them = `${counted(held, 'task')} may have run on a server that is gone`;
      this.say(`${mark(style, 'attention')} ${them} ${style.utf8 ? '↳' : '->'} khlone status`);
    }
    return { host, connected: true, sent, refused, held, conflicts };
  }

  /** What was sent and not taken: a receipt had said that it waits. */
  tellRefused(ids: readonly string[]): void {
    const style = this.style('stderr');
    const all = this.app.outbox.refused().filter(({ id }) => ids.includes(id));
    for (const one of all.slice(0, MAX_REFUSED)) this.say(`${mark(style, 'failed')} ${refusedTask(one)}`);
    if (all.length > MAX_REFUSED) this.say(`  and ${all.length - MAX_REFUSED} more were refused`);
  }

  /** Conflicts of the zones of a host, as they are known now. */
  tellConflicts(host: string): string[] {
    const style = this.style('stderr');
    const dash = style.utf8 ? '—' : '-';
    const paths = this.app.bindings
      .all()
      .filter((binding) => binding.host === host)
      .flatMap((binding) => knownCounts(binding)?.conflicts ?? []);
    for (const path of paths.slice(0, MAX_CONFLICTS))
      this.say(`${mark(style, 'attention')} conflict in ${shownPath(path)} ${dash} khlone pull to resolve`);
    if (paths.length > MAX_CONFLICTS) this.say(`  and ${paths.length - MAX_CONFLICTS} more`);
    return paths.map(pathText);
  }

  async tellActive(host: string): Promise<void> {
    for (const binding of this.app.bindings.all().filter((b) => b.host === host)) {
      const { view } = await zoneStatus(this.app, this.caller, binding);
      for (const clone of view.crew.filter((c) => c.state === 'active')) {
        const style = this.style('stderr');
        const done = clone.progress ? ` (${percent(clone)})` : '';
        const dash = style.utf8 ? '—' : '-';
        this.say(
          `${mark(style, 'done')} ${oneLine(clone.name, 60)} active${done} ${dash} ${oneLine(clone.title ?? '', 100)}`,
        );
      }
    }
  }
}
