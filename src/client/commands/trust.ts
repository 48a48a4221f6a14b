import { Command, Option } from 'clipanion';
import { KhloneError } from '../../protocol/error.ts';
import { sanitize } from '../../protocol/sanitize.ts';
import { brainFiles } from '../brain-files.ts';
import { confirm } from '../caller.ts';
import { worktreeOf } from '../place.ts';
import { mark } from '../render/receipt.ts';
import { loadSiteConfig } from '../site-config.ts';
import { agree, needsTrust } from '../trust.ts';
import { KhloneCommand } from './base.ts';

export class TrustCommand extends KhloneCommand {
  static override paths = [['trust']];
  static override usage = Command.Usage({
    category: 'Config',
    description: 'see what khlone.yml would run, read, reach or spend, and agree to it',
    details:
      'A repository is not trusted because it was cloned. The agreement holds for this content in this repository.',
  });
  yes = Option.Boolean('--yes', false, { description: 'agree without asking' });

  override async execute(): Promise<number> {
    const { app, caller } = this;
    const worktree = await worktreeOf(app, caller, { zone: this.zone });
    const config = await loadSiteConfig(worktree.root);
    const files = brainFiles(worktree.root);
    const question = await needsTrust(app.home, worktree, config, files);
    if (!question) {
      if (this.json) this.give({ trusted: true });
      this.say('nothing to agree to');
      return 0;
    }
    if (!this.json) caller.err(`${sanitize(question.text)}\n`);
    if (!this.yes && !(await confirm(caller, 'Agree to this?'))) {
      throw new KhloneError('not-trusted', 'not agreed', 'khlone trust --yes agrees without asking');
    }
    await agree(app.home, worktree, config, files);
    if (this.json) this.give({ trusted: true });
    this.say(`${mark(this.style('stderr'), 'done')} trusted`);
    return 0;
  }
}
