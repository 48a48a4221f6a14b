import { type AnswerOf, CALLS, type CallName, type Params } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import type { Body, CallOptions, Peer } from '../protocol/peer.ts';

/** A call to a server with its answer parsed: a remote host is untrusted input. */
export const callServer = async <N extends CallName>(
  peer: Peer,
  name: N,
  params: Params<N>,
  options: CallOptions = {},
): Promise<{ answer: AnswerOf<N>; body: Body | undefined }> => {
  const { value, body } = await peer.call(name, params, options);
  const parsed = CALLS[name].answer.safeParse(value);
  if (parsed.success) return { answer: parsed.data as AnswerOf<N>, body };
  throw new KhloneError(
    'invalid-request',
    `the server's answer to ${name} has an unknown shape`,
    'khlone doctor',
  );
};

export const call = async <N extends CallName>(
  peer: Peer,
  name: N,
  params: Params<N>,
  options: CallOptions = {},
): Promise<AnswerOf<N>> => (await callServer(peer, name, params, options)).answer;
