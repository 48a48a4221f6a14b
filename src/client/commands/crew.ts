import { Command, Option } from 'clipanion';
import { isCloneName } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { specOf } from '../bindings.ts';
import { call } from '../call.ts';
import { environmentFor, pushEnvironment } from '../environments.ts';
import { placeOf } from '../place.ts';
import { mark } from '../render/receipt.ts';
import { counted, crewLines } from '../render/status.ts';
import { serverOfZone } from '../server-call.ts';
import { zoneStatus } from '../zone-status.ts';
import { KhloneCommand } from './base.ts';

export class CrewCommand extends KhloneCommand {
  static override paths = [['crew'], ['crew', 'get']];
  static override usage = Command.Usage({ category: 'Crew', description: 'the clones of this zone' });

  override async execute(): Promise<number> {
    const status = await zoneStatus(this.app, this.caller, await this.here());
    if (this.json) {
      const { view, ageMs } = status;
      this.give(view.crew.map((clone) => (ageMs > 0 ? { ...clone, ageMs } : clone)));
      return 0;
    }
    const width = this.caller.terminal.stdout ? this.caller.terminal.columns : 400;
    for (const line of crewLines(status, this.style('stdout'), width)) this.caller.out(`${line}\n`);
    if (status.view.crew.length === 0) this.say('no clones yet: khlone act "…" enrolls one');
    return 0;
  }
}

export class CrewAddCommand extends KhloneCommand {
  static override paths = [['crew', 'add']];
  static override usage = Command.Usage({ category: 'Crew', description: 'enroll a clone of a role' });
  role = Option.String('--role', { required: true, description: 'the role, such as reviewer' });
  brain = Option.String('--brain', { description: 'the brain; without it the hero’s' });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const place = await placeOf(app, caller, { zone: this.zone });
    const connected = await serverOfZone(app, caller, place.binding);
    await environmentFor(app, caller, place.binding, place.config, false);
    await pushEnvironment(app, connected.peer, place.binding.zone, false);
    app.bindings.put(place.binding);
    const { clone } = await call(connected.peer, 'crew.add', {
      zone: specOf(place.binding),
      policy: place.policy,
      role: this.role,
      ...(this.brain && { brain: this.brain }),
    });
    if (this.json) this.give(clone);
    if (this.quiet) caller.out(`${clone.name}\n`);
    const brain = oneLine(clone.brain, 100);
    this.say(`${mark(this.style('stderr'), 'done')} enrolled ${clone.name} on ${brain}`);
    return 0;
  }
}

const DEL_HINT = 'khlone crew shows the names; khlone crew del NAME, or --role ROLE --all';

export class CrewDelCommand extends KhloneCommand {
  static override paths = [['crew', 'del']];
  static override usage = Command.Usage({
    category: 'Crew',
    description: 'let a clone go; its transcript stays',
    details: 'A busy clone needs `--force`, which cancels its tasks.',
  });
  role = Option.String('--role', { description: 'with --all: every clone of the role' });
  all = Option.Boolean('--all', false, { description: 'with --role: every clone of the role' });
  force = Option.Boolean('--force', false, { description: 'cancel what it has to do' });
  clones = Option.Rest();

  override async execute(): Promise<number> {
    if (this.clones.length === 0 && !(this.role && this.all)) {
      throw new KhloneError('usage', 'which clone?', DEL_HINT);
    }
    const strange = this.clones.find((word) => !isCloneName(word));
    if (strange !== undefined)
      throw new KhloneError('usage', `"${oneLine(strange, 80)}" is no clone's name`, DEL_HINT);
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const { zone } = await call(peer, 'zone.get', { zone: binding.zone });
    const ofRole =
      this.role && this.all ? (zone?.crew ?? []).filter((c) => c.role === this.role).map((c) => c.name) : [];
    const names = [...this.clones, ...ofRole];
    if (names.length === 0) throw new KhloneError('not-found', `no clone of ${this.role}`, 'khlone crew');
    const { deleted } = await call(
      peer,
      'crew.del',
      { zone: binding.zone, clones: names, force: this.force },
      { timeoutMs: 60_000 },
    );
    if (this.json) this.give({ deleted });
    this.say(`${mark(this.style('stderr'), 'done')} let go: ${deleted.join(', ')}`);
    return 0;
  }
}

export class CrewDetachCommand extends CrewCommand {
  static override paths = [['crew', 'detach']];
  static override usage = Command.Usage({
    category: 'Crew',
    description: 'end every attachment to this zone, and show the crew',
    details: 'Also those of other terminals, and of terminals that were lost; the clones go on.',
  });

  override async execute(): Promise<number> {
    const binding = await this.here();
    const { peer } = await serverOfZone(this.app, this.caller, binding);
    const { ended } = await call(peer, 'attach.detach', { zone: binding.zone });
    if (ended > 0) {
      this.say(`${mark(this.style('stderr'), 'done')} ended ${counted(ended, 'attachment')}`);
    }
    return super.execute();
  }
}
