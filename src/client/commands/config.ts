import { Command, Option } from 'clipanion';
import { getUserSetting, listUserSettings, setUserSetting, unsetUserSetting } from '../user-config.ts';
import { KhloneCommand } from './base.ts';

export class ConfigListCommand extends KhloneCommand {
  static override paths = [['config'], ['config', 'list']];
  static override usage = Command.Usage({ category: 'Config', description: 'your personal defaults' });

  override async execute(): Promise<number> {
    const settings = await listUserSettings(this.app.home.root);
    if (this.json) this.give(Object.fromEntries(settings.map(({ key, value }) => [key, value ?? null])));
    else for (const { key, value } of settings) this.caller.out(`${key} = ${value ?? '(not set)'}\n`);
    return 0;
  }
}

export class ConfigGetCommand extends KhloneCommand {
  static override paths = [['config', 'get']];
  static override usage = Command.Usage({ category: 'Config', description: 'one of your defaults' });
  key = Option.String();

  override async execute(): Promise<number> {
    const value = await getUserSetting(this.app.home.root, this.key);
    if (this.json) this.give(value ?? null);
    else if (value !== undefined) this.caller.out(`${value}\n`);
    return 0;
  }
}

export class ConfigSetCommand extends KhloneCommand {
  static override paths = [['config', 'set']];
  static override usage = Command.Usage({ category: 'Config', description: 'set one of your defaults' });
  key = Option.String();
  value = Option.String();

  override async execute(): Promise<number> {
    await setUserSetting(this.app.home.root, this.key, this.value);
    if (this.json) this.give({ [this.key]: (await getUserSetting(this.app.home.root, this.key)) ?? null });
    return 0;
  }
}

export class ConfigUnsetCommand extends KhloneCommand {
  static override paths = [['config', 'unset']];
  static override usage = Command.Usage({ category: 'Config', description: 'back to the built-in default' });
  key = Option.String();

  override async execute(): Promise<number> {
    await unsetUserSetting(this.app.home.root, this.key);
    if (this.json) this.give({ [this.key]: null });
    return 0;
  }
}
