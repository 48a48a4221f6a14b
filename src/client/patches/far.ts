import * as z from 'zod';
import type { AnswerOf, Params } from '../../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { Refusal } from '../../protocol/patch.ts';
import type { Peer } from '../../protocol/peer.ts';
import { call, callServer } from '../call.ts';

/** The zone's side of patches, as the merging side speaks to it. */

export type Choice = Params<'patch.look'>['choice'];
export type Look = AnswerOf<'patch.look'>;
type Body = AsyncIterable<Uint8Array>;

export type Far = {
  /** The zone's state, and what leads there from one of `known`. */
  look(wish: { replica: string; known: string[]; payload: boolean }): Promise<{ answer: Look; body?: Body }>;
  apply(
    change: Omit<Params<'patch.apply'>, 'zone'>,
    payload: Body,
  ): Promise<{ answer: AnswerOf<'patch.apply'>; refused: Refusal[] }>;
  agree(state: Omit<Params<'patch.agree'>, 'zone'>): Promise<void>;
  commits(have: string[]): Promise<{ answer: AnswerOf<'patch.commits'>; body?: Body }>;
  /** The commit that the zone's HEAD and these come from; undefined where they share none. */
  common(have: string[]): Promise<string | undefined>;
};

/** A first snapshot reads every file of the zone, and a payload travels at the pace of the link. */
const DEADLINE_MS = 30 * 60_000;
/** A list of refusals of a million paths fits. */
const MAX_REFUSALS_BYTES = 256 * 1024 * 1024;

const readJson = async (body: Body | undefined): Promise<unknown> => {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body ?? []) {
    size += piece.length;
    if (size > MAX_REFUSALS_BYTES) throw new KhloneError('too-large', 'the zone refuses too much to be told');
    pieces.push(piece);
  }
  return JSON.parse(Buffer.concat(pieces).toString('utf8') || '[]');
};

/** The far side over a connection. Every answer is parsed: a zone's machine is untrusted input. */
export const farOf = (peer: Peer, zone: string, choice: Choice): Far => {
  const options = { timeoutMs: DEADLINE_MS };
  return {
    look: async (wish) => {
      const { answer, body } = await callServer(peer, 'patch.look', { zone, choice, ...wish }, options);
      return body ? { answer, body } : { answer };
    },
    apply: async (change, payload) => {
      const { answer, body } = await callServer(
        peer,
        'patch.apply',
        { zone, ...change },
        { ...options, body: payload, klass: 'bulk' },
      );
      return { answer, refused: z.array(Refusal).parse(await readJson(body)) };
    },
    agree: async (state) => {
      await call(peer, 'patch.agree', { zone, ...state }, options);
    },
    commits: async (have) => {
      const { answer, body } = await callServer(peer, 'patch.commits', { zone, have }, options);
      return body ? { answer, body } : { answer };
    },
    common: async (have) => (await call(peer, 'patch.common', { zone, have }, options)).common,
  };
};

/**
 * Tells the zone what both sides have, where it still answers: it is told again by the next exchange, and what was
 * done here before the line broke is to be said.
 */
export const agreeIfThere = async (far: Far, state: Parameters<Far['agree']>[0]): Promise<void> => {
  await far.agree(state).catch((thrown: unknown) => {
    if (asKhloneError(thrown).code !== 'unreachable') throw thrown;
  });
};
