import { connect } from 'node:net';

/**
 * What keys an agent holds, by type and label, certificates and hardware keys included: ssh2's own client leaves out
 * those it cannot use, and just these decide which backend is needed (draft-ietf-sshm-ssh-agent, section 3.5).
 */

export type AgentKey = { readonly blob: Buffer; readonly type: string; readonly label: string };

const REQUEST_IDENTITIES = 11;
const IDENTITIES_ANSWER = 12;
/** An agent that does not answer at once is asked again by whoever logs in; the choice does not wait for it. */
const DEADLINE_MS = 1_000;
/** As OpenSSH's own limit for an agent's message. */
const ANSWER_MAX_BYTES = 256 * 1024;

/** A reader of SSH strings; undefined where the bytes end too early. */
const stringsOf = (bytes: Buffer, from: number): (() => Buffer | undefined) => {
  let at = from;
  return () => {
    if (at + 4 > bytes.length) return undefined;
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.length) return undefined;
    const value = bytes.subarray(at + 4, end);
    at = end;
    return value;
  };
};

/** The type that a key in SSH wire form names. */
export const keyTypeOf = (blob: Buffer): string => stringsOf(blob, 0)()?.toString('latin1') ?? '';

/** Reads an answer without its length. Never throws; what cannot be read is left out. */
export const parseIdentities = (answer: Buffer): AgentKey[] => {
  if (answer[0] !== IDENTITIES_ANSWER || answer.length < 5) return [];
  const next = stringsOf(answer, 5);
  const keys: AgentKey[] = [];
  for (let left = answer.readUInt32BE(1); left > 0; left--) {
    const [blob, label] = [next(), next()];
    if (!blob || !label) break;
    keys.push({ blob, type: keyTypeOf(blob), label: label.toString('utf8') });
  }
  return keys;
};

/** The keys of the agent at a socket; none where there is no agent or it is silent. Never rejects. */
export const listAgentKeys = (socketPath: string | undefined): Promise<AgentKey[]> =>
  new Promise((resolve) => {
    if (!socketPath) return resolve([]);
    const socket = connect(socketPath);
    let came: Buffer = Buffer.alloc(0);
    const end = (keys: AgentKey[]): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(keys);
    };
    const timer = setTimeout(end, DEADLINE_MS, []);
    socket.on('error', () => end([])).on('close', () => end([]));
    socket.on('connect', () => socket.write(Buffer.from([0, 0, 0, 1, REQUEST_IDENTITIES])));
    socket.on('data', (chunk: Buffer) => {
      came = Buffer.concat([came, chunk]);
      if (came.length < 4) return;
      const length = came.readUInt32BE(0);
      if (length > ANSWER_MAX_BYTES) end([]);
      else if (came.length >= 4 + length) end(parseIdentities(came.subarray(4, 4 + length)));
    });
  });
