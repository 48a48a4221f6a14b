import { ActCommand } from './act.ts';
import { AskCommand } from './ask.ts';
import { AttachCommand } from './attach.ts';
import { AwaitCommand } from './await.ts';
import { CancelCommand } from './cancel.ts';
import { ConfigGetCommand, ConfigListCommand, ConfigSetCommand, ConfigUnsetCommand } from './config.ts';
import { CrewAddCommand, CrewCommand, CrewDelCommand, CrewDetachCommand } from './crew.ts';
import { DiffCommand } from './diff.ts';
import { DispatchToCommand } from './dispatch-to.ts';
import { DoctorCommand } from './doctor.ts';
import { HelpCommand, VersionCommand } from './help.ts';
import { ListCommand } from './list.ts';
import { LogCommand } from './log.ts';
import { LoginCommand } from './login.ts';
import { PatchApplyCommand, PatchExportCommand, PatchListCommand, PatchShowCommand } from './patch.ts';
import { PullCommand } from './pull.ts';
import { QueueCommand, QueueMoveCommand, QueuePauseCommand, QueueResumeCommand } from './queue.ts';
import { QueueDropCommand } from './queue-drop.ts';
import { ReconnectCommand } from './reconnect.ts';
import { ResolveCommand } from './resolve.ts';
import { RetryCommand } from './retry.ts';
import { StatusCommand } from './status.ts';
import { StopCommand } from './stop.ts';
import { SyncCommand } from './sync.ts';
import { TrustCommand } from './trust.ts';
import { UninstallCommand } from './uninstall.ts';
import { WatchCommand } from './watch.ts';
import { ZoneDelCommand, ZoneHaltCommand, ZoneSetCommand } from './zone.ts';

/** Every command of khlone, in the order of the manual. */
export const COMMANDS = [
  ...[ActCommand, AskCommand, DispatchToCommand, AwaitCommand, CancelCommand, RetryCommand],
  ...[QueueCommand, QueuePauseCommand, QueueResumeCommand, QueueMoveCommand, QueueDropCommand],
  ...[StatusCommand, WatchCommand, ListCommand, LogCommand],
  ...[CrewCommand, CrewAddCommand, CrewDelCommand, AttachCommand, CrewDetachCommand, LoginCommand],
  ...[SyncCommand, PullCommand, DiffCommand, ResolveCommand],
  ...[PatchListCommand, PatchShowCommand, PatchApplyCommand, PatchExportCommand],
  ...[ZoneSetCommand, ZoneHaltCommand, ZoneDelCommand],
  ...[ConfigListCommand, ConfigGetCommand, ConfigSetCommand, ConfigUnsetCommand, TrustCommand],
  ...[ReconnectCommand, DoctorCommand, StopCommand, UninstallCommand],
  ...[HelpCommand, VersionCommand],
];
