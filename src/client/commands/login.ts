import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { specOf } from '../bindings.ts';
import { call } from '../call.ts';
import { hostArgv } from '../link/ssh-config.ts';
import { placeOf } from '../place.ts';
import { mark } from '../render/receipt.ts';
import { refreshEnvironment, serverOf } from '../server-call.ts';
import { KhloneCommand } from './base.ts';

/** Each brain's own way to log in, at a terminal. */
const LOGIN: Readonly<Record<string, readonly string[]>> = {
  claude: ['claude', 'auth', 'login'],
};

export class LoginCommand extends KhloneCommand {
  static override paths = [['login']];
  static override usage = Command.Usage({
    category: 'Crew',
    description: 'run a brain’s own login at this terminal, on the zone’s machine',
  });
  brain = Option.String();

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const argv = Object.hasOwn(LOGIN, this.brain) ? LOGIN[this.brain] : undefined;
    if (!argv) {
      throw new KhloneError(
        'usage',
        `no login is known for ${this.brain}`,
        `known: ${Object.keys(LOGIN).join(', ')}`,
      );
    }
    if (!caller.run)
      throw new KhloneError('usage', 'a login needs a terminal', `khlone login ${this.brain} at one`);
    const place = await placeOf(app, caller, { zone: this.zone });
    const { host, mode, root } = place.binding;
    // ssh's own client makes the terminal there; the words are ours.
    const words = mode === 'local' ? [...argv] : ['ssh', '-t', ...hostArgv(host), argv.join(' ')];
    const code = await caller.run(words, root);
    if (code !== 0)
      throw new KhloneError('brain-auth', `${this.brain} ended its login with ${code}`, 'try again');
    const connected = await serverOf(app, caller, host);
    await refreshEnvironment(app, caller, place, connected);
    await call(connected.peer, 'zone.open', { zone: specOf(place.binding), policy: place.policy });
    this.say(`${mark(this.style('stderr'), 'done')} logged in; what waited for it goes on`);
    return 0;
  }
}
