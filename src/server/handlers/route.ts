import { type AnswerOf, CALLS, type CallName, type Params } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Answer, Body, Call, Klass, Peer } from '../../protocol/peer.ts';

/** A call's name with its handler: what arrives is parsed by the schema before any handler sees it. */

export type Ask<N extends CallName> = {
  params: Params<N>;
  body: Body | undefined;
  signal: AbortSignal;
  /** Who calls. */
  peer: Peer;
};
/** `klass`: how urgent the body is; bulk unless named. */
export type Result<N extends CallName> = AnswerOf<N> | { answer: AnswerOf<N>; body: Body; klass?: Klass };

export const route = <N extends CallName>(
  name: N,
  handle: (ask: Ask<N>) => Promise<Result<N>> | Result<N>,
): [string, (call: Call) => Promise<Answer>] => [
  name,
  async (call) => {
    const parsed = CALLS[name].params.safeParse(call.params);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new KhloneError('invalid-params', `${name}: ${issue?.path.join('.')}: ${issue?.message}`);
    }
    const params = parsed.data as Params<N>;
    const ask: Ask<N> = {
      params,
      body: call.body,
      peer: call.peer,
      // Asked for by few: a signal that nobody looks at is never made.
      get signal() {
        return call.signal;
      },
    };
    const result = await handle(ask);
    if (result !== null && typeof result === 'object' && 'body' in result && 'answer' in result) {
      const { answer, body, klass = 'bulk' } = result;
      return { value: answer, body, klass };
    }
    return { value: result };
  },
];

/** A whole body as bytes, up to a limit. */
export const readBody = async (body: Body, maxBytes: number): Promise<Buffer> => {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > maxBytes) throw new KhloneError('too-large', `more than ${maxBytes} bytes were sent`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
};
