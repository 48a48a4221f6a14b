import { ActCommand } from './act.ts';
import { AskCommand } from './ask.ts';

/** Every command of khlone, in the order of the manual. */
export const COMMANDS = [ActCommand, AskCommand];
