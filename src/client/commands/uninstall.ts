import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { call } from '../call.ts';
import { confirm } from '../caller.ts';
import type { Connected } from '../link/link.ts';
import { mark } from '../render/receipt.ts';
import { counted } from '../render/status.ts';
import { serverOf } from '../server-call.ts';
import { removeSnapshot } from '../worksite-snapshot.ts';
import { KhloneCommand } from './base.ts';

const UNINSTALL_DEADLINE_MS = 10 * 60_000;
/** Zones that are named in the question. */
const MAX_NAMED = 10;

export class UninstallCommand extends KhloneCommand {
  static override paths = [['uninstall']];
  static override usage = Command.Usage({
    category: 'Machine',
    description: 'take khlone off a host, or off this machine',
    details:
      'Ends its zones as `khlone drop` would, then khlone-server, tmux and all that khlone made there. Refuses while tasks run or a zone holds work that is only there; `--force` cancels the tasks and saves recovery patches, which stay. Your own worktrees, the `khlone` folder and `refs/remotes/khlone` in their git directories and the line `/.khlone/` in `info/exclude` there, the checkout of khlone and the line in your shell’s start file are yours to keep or remove.',
    examples: [['a host that is no longer used', 'khlone uninstall devbox']],
  });
  host = Option.String({ required: false });
  force = Option.Boolean('--force', false, { description: 'cancel tasks; save recovery patches first' });
  yes = Option.Boolean('--yes', false, { description: 'do not ask' });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const host = this.host ?? 'local';
    const place = host === 'local' ? 'this machine' : oneLine(host, 100);
    this.refuseToLose(host);
    const connected = await serverOf(app, caller, host);
    await this.settle(connected, place, host);
    await this.farewell(connected);
    const params = { force: this.force };
    const { kept } = await call(connected.peer, 'uninstall', params, { timeoutMs: UNINSTALL_DEADLINE_MS });
    await this.forget(host);
    if (this.json) this.give({ host, kept });
    this.say(`${mark(this.style('stderr'), 'done')} khlone is gone from ${place}`);
    for (const path of kept) this.say(`  recovery patch there: ${oneLine(path, 300)}`);
    if (host === 'local') app.stop(true);
    return 0;
  }

  /** What only this machine knows would be lost, or nobody would know any more where khlone is. */
  refuseToLose(host: string): void {
    if (this.force) return;
    const { app } = this;
    const waiting = app.outbox.list(host === 'local' ? undefined : host).length;
    if (waiting > 0) {
      const what = `${counted(waiting, 'thing')} not sent yet`;
      throw new KhloneError('conflict', what, 'khlone reconnect sends them; --force forgets them');
    }
    const others = [...new Set(app.bindings.all().map((b) => b.host))].filter((one) => one !== 'local');
    if (host !== 'local' || others.length === 0) return;
    throw new KhloneError(
      'conflict',
      `there are zones on ${others.map((one) => oneLine(one, 100)).join(', ')}`,
      `khlone uninstall ${oneLine(others[0] ?? 'HOST', 100)} first; --force leaves them there`,
    );
  }

  /** Throws `needs-yes` unless a person agrees to what will go. */
  async settle({ peer }: Connected, place: string, host: string): Promise<void> {
    if (this.yes) return;
    const { zones } = await call(peer, 'zone.list', {});
    const named = zones.slice(0, MAX_NAMED).map(({ address }) => oneLine(address, 200));
    const more = zones.length > named.length ? [`${zones.length - named.length} more`] : [];
    const what =
      zones.length > 0 ? ` and its ${counted(zones.length, 'zone')} (${[...named, ...more].join(', ')})` : '';
    if (await confirm(this.caller, `Take khlone${what} off ${place}?`)) return;
    const which = host === 'local' ? '' : `${place} `;
    throw new KhloneError(
      'needs-yes',
      `nothing was removed: khlone${what} ${what ? 'stay' : 'stays'} on ${place}`,
      `khlone uninstall ${which}--yes`,
    );
  }

  /** Whoever looks into a zone there is told first: a terminal that lost its host would dial, and set it up again. */
  async farewell({ peer }: Connected): Promise<void> {
    const { zones } = await call(peer, 'zone.list', {});
    for (const { id } of zones) await call(peer, 'attach.detach', { zone: id });
  }

  /** Its zones are no zones any more. */
  async forget(host: string): Promise<void> {
    const { app } = this;
    for (const { zone, root } of app.bindings.all().filter((b) => b.host === host)) {
      app.environments.delete(zone);
      app.known.forget(zone);
      app.bindings.remove(zone);
      await removeSnapshot(root);
    }
    for (const queued of app.outbox.list(host)) app.outbox.remove(queued);
  }
}
