import { Command, Option } from 'clipanion';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { lenderOf } from '../dispatch.ts';
import { mark } from '../render/receipt.ts';
import { counted } from '../render/status.ts';
import { oneLine } from '../terminal/sanitize.ts';
import { zoneStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

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
    const waiting = app.outbox.list().map((q) => q.entry.host);
    const hosts = this.host ? [this.host] : [...new Set([...(here ? [here.host] : []), ...waiting])];
    if (hosts.length === 0) throw new KhloneError('usage', 'connect to which host?', 'khlone reconnect HOST');
    let worst = 0;
    for (const host of hosts) {
      const before = app.outbox.list(host).length;
      const style = this.style('stderr');
      try {
        await app.link(host).connect(lenderOf(caller));
        this.say(`${mark(style, 'done')} connected to ${oneLine(host, 100)}`);
        await this.tellActive(host);
        await app.flush(host);
        const sent = before - app.outbox.list(host).length;
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
        this.say(
          `${mark(this.style('stderr'), 'done')} ${clone.name} active — ${oneLine(clone.title ?? '', 100)}`,
        );
      }
    }
  }
}
