import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { specOf } from '../bindings.ts';
import { call } from '../call.ts';
import { confirm } from '../caller.ts';
import type { Connected } from '../link/link.ts';
import { notYet } from '../not-yet.ts';
import { type Place, placeOf } from '../place.ts';
import { mark } from '../render/receipt.ts';
import { refreshEnvironment, serverOf, serverOfZone } from '../server-call.ts';
import { removeSnapshot, snapshotBinding } from '../worksite-snapshot.ts';
import { KhloneCommand } from './base.ts';

const DELETE_DEADLINE_MS = 120_000;

export class ZoneSetCommand extends KhloneCommand {
  static override paths = [['init'], ['zone', 'set']];
  static override usage = Command.Usage({
    category: 'Zones',
    description: 'find or make the zone of this worktree; starts a halted one',
    details:
      'Also refreshes what the clones get as environment, and carries the code to a zone on another host. On a zone that is there it changes nothing else.',
  });
  branch = Option.Boolean('--branch', false, {
    description: 'a zone of its own for the branch that is checked out now',
  });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const { place, connected } = this.branch ? await this.anew() : await this.found();
    const { binding } = place;
    app.bindings.put(binding);
    await refreshEnvironment(app, caller, place, connected);
    const opened = await call(connected.peer, 'zone.open', { zone: specOf(binding), policy: place.policy });
    for (const note of opened.notes) this.say(`  ${oneLine(note, 300)}`);
    if (opened.needsCode) {
      if (opened.zone.id === binding.zone) app.known.put(opened.zone);
      this.say(
        `${mark(this.style('stderr'), 'queued')} preparing zone: carrying the code to ${oneLine(binding.mode === 'local' ? binding.path : binding.host, 200)}`,
      );
      const carried = await app.carrier.carry(place);
      for (const left of carried.leftOut.slice(0, 20)) {
        this.say(`  not carried: ${oneLine(left.path, 200)} (${left.why})`);
      }
    }
    app.watchZone(binding);
    await snapshotBinding(app, place, connected);
    const passedOver = notYet(place.config);
    if (passedOver.length > 0) this.say(`  not in this version, passed over: ${passedOver.join(', ')}`);
    const view = { ...opened.zone, ...(opened.needsCode && { state: 'ready' as const }) };
    if (view.id === binding.zone) app.known.put(view);
    if (this.json)
      this.give({
        zone: binding.address,
        id: binding.zone,
        mode: binding.mode,
        host: binding.host,
        made: opened.made,
      });
    const where = binding.mode === 'local' ? 'local' : `${binding.mode} ${oneLine(binding.host, 100)}`;
    this.say(
      `${mark(this.style('stderr'), 'done')} ${opened.made ? 'init' : 'zone'} @${oneLine(binding.branch, 120)} (${where})`,
    );
    return 0;
  }

  async found(): Promise<{ place: Place; connected: Connected }> {
    const place = await placeOf(this.app, this.caller, { zone: this.zone });
    return { place, connected: await serverOf(this.app, this.caller, place.binding.host) };
  }

  /** The place as if this worktree had no zone yet. One that it had stays known where this fails or leads to it again. */
  async anew(): Promise<{ place: Place; connected: Connected }> {
    const known = await this.hereOrNone();
    if (!known) return this.found();
    const { bindings } = this.app;
    bindings.remove(known.zone);
    try {
      const { place, connected } = await this.found();
      if (place.binding.zone !== known.zone) return { place, connected };
      const { session, auto } = known;
      const binding = { ...place.binding, ...(session && { session }), ...(auto !== undefined && { auto }) };
      return { place: { ...place, binding }, connected };
    } catch (thrown) {
      bindings.put(known);
      throw thrown;
    }
  }
}

export class ZoneHaltCommand extends KhloneCommand {
  static override paths = [['halt'], ['zone', 'halt']];
  static override usage = Command.Usage({
    category: 'Zones',
    description: 'end the clones of the zone and keep its state',
    details: 'Acts on a halted zone queue; `khlone init` starts it again.',
  });

  override async execute(): Promise<number> {
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const { ended } = await call(
      peer,
      'zone.halt',
      { zone: binding.zone },
      { timeoutMs: DELETE_DEADLINE_MS },
    );
    if (this.json) this.give({ zone: binding.address, ended });
    this.say(
      `${mark(this.style('stderr'), 'done')} halted @${oneLine(binding.branch, 120)}; khlone init starts it again`,
    );
    return 0;
  }
}

export class ZoneDelCommand extends KhloneCommand {
  static override paths = [['drop'], ['zone', 'del']];
  static override usage = Command.Usage({
    category: 'Zones',
    description: 'end the zone and remove what khlone made, never your worktree or host',
    details:
      'Refuses while tasks run or work there was not carried back; `--force` cancels them and saves a recovery patch first.',
  });
  force = Option.Boolean('--force', false, { description: 'cancel its tasks; save a recovery patch first' });
  yes = Option.Boolean('--yes', false, { description: 'do not ask' });

  override async execute(): Promise<number> {
    const binding = await this.here();
    if (this.force && !this.yes && this.caller.ask) {
      const sure = await confirm(
        this.caller,
        `Delete zone ${oneLine(binding.address, 200)} and cancel its tasks?`,
      );
      if (!sure) throw new KhloneError('needs-yes', 'nothing was deleted', 'khlone zone del --force --yes');
    }
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const params = { zone: binding.zone, force: this.force };
    const answer = await call(peer, 'zone.del', params, { timeoutMs: DELETE_DEADLINE_MS });
    this.app.environments.delete(binding.zone);
    await this.app.auto.stop(binding.zone);
    this.app.known.forget(binding.zone);
    this.app.bindings.remove(binding.zone);
    await removeSnapshot(binding.root);
    if (this.json) this.give(answer);
    this.say(`${mark(this.style('stderr'), 'done')} deleted zone ${oneLine(binding.address, 200)}`);
    if (answer.kept)
      this.say(`  recovery patch on ${oneLine(binding.host, 100)}: ${oneLine(answer.kept, 300)}`);
    return 0;
  }
}
