import type { Identity, KeyTools } from './ssh-keys.ts';
import type { LoginStep } from './ssh-login.ts';
import type { AnyAuthMethod, BaseAgent, Ssh2, ParsedKey as Ssh2Key } from './ssh2.ts';

const AGENT_DEADLINE_MS = 5_000;

/** ssh2's key parser and agent client in the words of ssh-keys.ts. */
export const keyTools = (ssh2: Ssh2): KeyTools => ({
  parse: (data, passphrase) => ssh2.utils.parseKey(data, passphrase),
  agentIdentities: (socketPath) =>
    new Promise((resolve, reject) => {
      const agent = ssh2.createAgent(socketPath) as BaseAgent<Ssh2Key>;
      const timer = setTimeout(() => reject(new Error('it does not answer')), AGENT_DEADLINE_MS);
      const asIdentity = (key: Ssh2Key): Identity => ({
        publicKey: key.getPublicSSH(),
        label: `agent:${key.comment || key.type}`,
        sign: (data, hash) =>
          new Promise((done, failed) => {
            const options = hash === undefined ? {} : { hash: hash as 'sha256' | 'sha512' };
            agent.sign(key, data, options, (error, signature) =>
              signature ? done(signature) : failed(error ?? new Error('the agent gave no signature')),
            );
          }),
      });
      agent.getIdentities((error, keys) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve((keys ?? []).map((key) => asIdentity(key as Ssh2Key)));
      });
    }),
});

/** All keys as one agent: ssh2 asks it to sign only what the host would accept, so no passphrase is asked in vain. */
const identityAgent = (
  ssh2: Ssh2,
  identities: readonly Identity[],
  onFault: (words: string) => void,
): BaseAgent => {
  class IdentityAgent extends ssh2.BaseAgent<Buffer> {
    override getIdentities(done: (error?: Error | null, keys?: Buffer[]) => void): void {
      done(
        null,
        identities.map((identity) => identity.publicKey),
      );
    }
    override sign(key: unknown, data: Buffer, ...rest: unknown[]): void {
      const [options, done] = rest as [{ hash?: string }, (error: Error | null, signature?: Buffer) => void];
      const wanted = (key as Ssh2Key).getPublicSSH();
      const identity = identities.find((one) => one.publicKey.equals(wanted));
      const signing = identity?.sign(data, options.hash) ?? Promise.reject(new Error('a key nobody offered'));
      signing.then(
        (signature) => done(null, signature),
        (error: Error) => {
          onFault(error.message);
          done(error);
        },
      );
    }
  }
  return new IdentityAgent();
};

/** One step of a login in ssh2's words. A step that asks a person settles when they have answered. */
export const asAuthMethod = (
  ssh2: Ssh2,
  step: LoginStep,
  username: string,
  onFault: (fault: unknown) => void,
): AnyAuthMethod | Promise<AnyAuthMethod> => {
  if (step.kind === 'none') return { type: 'none', username };
  if (step.kind === 'keys')
    return {
      type: 'agent',
      username,
      agent: identityAgent(ssh2, step.identities, (words) => onFault(words)),
    };
  if (step.kind === 'password')
    return step.ask().then((password) => ({ type: 'password' as const, username, password }));
  return {
    type: 'keyboard-interactive',
    username,
    prompt: (name, instructions, _language, prompts, finish) => {
      const title = [name, instructions].filter((text) => text.trim() !== '').join('\n');
      step.answer(title, prompts).then(finish, onFault);
    },
  };
};
