import { Command, Option } from 'clipanion';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { connectWithin } from '../dispatch.ts';
import { mark } from '../render/receipt.ts';
import { counted, percent } from '../render/status.ts';
import { zoneStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

/** A connection that is there has this long to prove it. */
const VERIFY_MS = 2_000;
const CONNECT_WITHIN_MS = 15_000;

export class ReconnectCommand extends KhloneCommand {
  static override paths = [['reconnect']];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'connect to the zone’s host now and send what waits',
    details: 'Passphrases, passwords and second factors are asked at this terminal.',
  });
  host = Option.String({ required: false });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const here = await this.hereOrNone();
    const waiting = (host: string): number =>
      app.outbox.list(host).filter((q) => q.entry.call.name === 'task.add' && !q.entry.held).length;
    const queued = app.outbox.list().map((q) => q.entry.host);
    const hosts = this.host ? [this.host] : [...new Set([...(here ? [here.host] : []), ...queued])];
    if (hosts.length === 0) throw new KhloneError('usage', 'connect to which host?', 'khlone reconnect HOST');
    let worst = 0;
    for (const host of hosts) {
      const before = waiting(host);
      const style = this.style('stderr');
      try {
        // A connection that only looks alive would make this wait; one that answers is kept.
        await app.link(host).verify(VERIFY_MS);
        await connectWithin(app.link(host), caller, CONNECT_WITHIN_MS);
        this.say(`${mark(style, 'done')} connected to ${oneLine(host, 100)}`);
        await this.tellActive(host);
        await app.flush(host);
        const sent = before - waiting(host);
        if (sent > 0) this.say(`${mark(style, 'done')} sent ${counted(sent, 'task')}`);
      } catch (thrown) {
        const error = asKhloneError(thrown);
        if (hosts.length === 1) throw error;
        caller.err(`${mark(style, 'failed')} ${oneLine(host, 100)}: ${oneLine(error.message, 500)}\n`);
        worst = error.exit;
      }
    }
    return worst;
  }

  async tellActive(host: string): Promise<void> {
    for (const binding of this.app.bindings.all().filter((b) => b.host === host)) {
      const { view } = await zoneStatus(this.app, this.caller, binding);
      for (const clone of view.crew.filter((c) => c.state === 'active')) {
        const style = this.style('stderr');
        const done = clone.progress ? ` (${percent(clone)})` : '';
        const dash = style.utf8 ? '—' : '-';
        this.say(
          `${mark(style, 'done')} ${clone.name} active${done} ${dash} ${oneLine(clone.title ?? '', 100)}`,
        );
      }
    }
  }
}
