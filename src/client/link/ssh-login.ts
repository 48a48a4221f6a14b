import { oneLine } from '../../provision/remote-shell.ts';
import type { Identity } from './ssh-keys.ts';
import type { Asker } from './ssh-target.ts';

/** How often a password or a set of questions is put before the host's refusal counts. */
const QUESTION_ROUNDS = 3;

export type Prompt = { readonly prompt: string; readonly echo?: boolean };

/** One way to log in, as a value; ssh2.ts turns it into ssh2's words. */
export type LoginStep =
  | { readonly kind: 'keys'; readonly identities: readonly Identity[] }
  /** Teaches what the host accepts, and is the way in where the network itself vouches for the user. */
  | { readonly kind: 'none' }
  | { readonly kind: 'questions'; answer(title: string, prompts: readonly Prompt[]): Promise<string[]> }
  | { readonly kind: 'password'; ask(): Promise<string> };

export type LoginPlan = {
  /** The next way to try; undefined: none is left. `accepts`: what the host said it would still take. */
  next(accepts: readonly string[] | undefined): LoginStep | undefined;
  /** What was tried or left out so far, in words. */
  tried(): readonly string[];
};

const METHOD = { keys: 'publickey', none: 'none', questions: 'keyboard-interactive', password: 'password' };

/** Keys first, then what a person can answer at the terminal. Without a terminal nothing is asked. */
export const createLoginPlan = (
  who: string,
  identities: readonly Identity[],
  remarks: readonly string[],
  asker: Asker,
): LoginPlan => {
  const tried: string[] = [...remarks];
  const steps: LoginStep[] = identities.length > 0 ? [{ kind: 'keys', identities }] : [];
  steps.push({ kind: 'none' });
  if (asker) {
    const answer = async (title: string, prompts: readonly Prompt[]) => {
      const answers: string[] = [];
      for (const [at, { prompt, echo }] of prompts.entries()) {
        // Words of a host that nobody has logged in to yet: one line each, and none drives the terminal.
        const head = at === 0 && title.trim() !== '' ? `${oneLine(title)}\n` : '';
        answers.push(await asker.ask({ text: `${head}(${who}) ${oneLine(prompt)} `, secret: echo !== true }));
      }
      return answers;
    };
    const ask = () => asker.ask({ text: `${who}'s password: `, secret: true });
    for (let round = 0; round < QUESTION_ROUNDS; round++) steps.push({ kind: 'questions', answer });
    for (let round = 0; round < QUESTION_ROUNDS; round++) steps.push({ kind: 'password', ask });
  }
  const says = (step: LoginStep): string => {
    if (step.kind !== 'keys') return step.kind === 'none' ? '' : METHOD[step.kind];
    return `keys ${step.identities.map((identity) => identity.label).join(', ')}`;
  };
  return {
    next: (accepts) => {
      for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
        const refused = accepts !== undefined && !accepts.includes(METHOD[step.kind]);
        if (refused && step.kind !== 'none') continue;
        const words = says(step);
        if (words !== '' && !tried.includes(words)) tried.push(words);
        return step;
      }
      return undefined;
    },
    tried: () => tried,
  };
};
