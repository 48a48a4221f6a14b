import type { Klass } from './body.ts';
import { asKhloneError, KhloneError, toWire } from './error.ts';
import { ERROR_MESSAGE_CHARS, JSON_DEPTH } from './limits.ts';

/** The JSON-RPC 2.0 objects in control frames, with one member of ours: `body`, the stream of bytes that belongs to it. */

export type CallId = number | string;
export type BodyMark = { stream: number; klass: Klass };

export type Message =
  | { kind: 'call'; id: CallId; method: string; params: unknown; body: BodyMark | undefined }
  | { kind: 'notice'; method: string; params: unknown }
  | { kind: 'answer'; id: CallId; value: unknown; body: BodyMark | undefined }
  | { kind: 'failure'; id: CallId; error: unknown }
  /** JSON, but nothing we act on. `asks`: it was a call, so its caller waits for a refusal. */
  | { kind: 'invalid'; id: CallId | null; asks: boolean; why: string; body: BodyMark | undefined };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The deepest nesting of arrays and objects in JSON bytes, counted without recursion; stops counting past `most`. */
export const jsonDepth = (json: Uint8Array, most: number): number => {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (quoted) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) quoted = false;
    } else if (byte === QUOTE) quoted = true;
    else if (byte === 0x7b || byte === 0x5b) {
      depth++;
      if (depth > deepest) deepest = depth;
      if (depth > most) return deepest;
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return deepest;
};

const idOf = (id: unknown): CallId | undefined => {
  if (typeof id === 'number' && Number.isSafeInteger(id)) return id;
  return typeof id === 'string' && id.length > 0 && id.length <= 64 ? id : undefined;
};

const markOf = (body: unknown): BodyMark | undefined => {
  if (body === null || typeof body !== 'object') return undefined;
  const { stream, klass } = body as { stream?: unknown; klass?: unknown };
  if (typeof stream !== 'number' || !Number.isInteger(stream) || stream < 1 || stream > 0xffffffff)
    return undefined;
  return { stream, klass: klass === 'interactive' ? 'interactive' : 'bulk' };
};

const messageOf = (json: unknown): Message => {
  const invalid = (why: string, id: CallId | null = null, asks = false, body?: BodyMark): Message => ({
    kind: 'invalid',
    id,
    asks,
    why,
    body,
  });
  if (Array.isArray(json)) return invalid('batches are not part of this protocol', null, true);
  if (json === null || typeof json !== 'object') return invalid('a message is an object', null, true);
  const wire = json as Record<string, unknown>;
  const id = idOf(wire.id);
  const body = markOf(wire.body);
  const asks = Object.hasOwn(wire, 'method');
  if (wire.jsonrpc !== '2.0') return invalid('jsonrpc must be "2.0"', id ?? null, asks, body);
  if (asks) {
    const { method, params } = wire;
    if (typeof method !== 'string') return invalid('method must be a string', id ?? null, true, body);
    if (id !== undefined) return { kind: 'call', id, method, params, body };
    return Object.hasOwn(wire, 'id')
      ? invalid('id must be an integer or a short string', null, true, body)
      : { kind: 'notice', method, params };
  }
  if (id === undefined) return invalid('an answer without an id');
  if (Object.hasOwn(wire, 'error')) return { kind: 'failure', id, error: wire.error };
  return { kind: 'answer', id, value: wire.result, body };
};

/**
 * The message in a control frame. Throws `parse-error` where the bytes are not JSON; everything else that is wrong
 * comes back as `invalid`, or as a failure where a call of ours was answered too deeply nested.
 */
export const readMessage = (payload: Buffer): Message => {
  let json: unknown;
  try {
    json = JSON.parse(payload.toString('utf8'));
  } catch {
    throw new KhloneError('parse-error', 'a control frame holds no JSON');
  }
  const message = messageOf(json);
  if (jsonDepth(payload, JSON_DEPTH) <= JSON_DEPTH) return message;
  const why = `a message is nested over ${JSON_DEPTH} levels`;
  if (message.kind === 'call')
    return { kind: 'invalid', id: message.id, asks: true, why, body: message.body };
  if (message.kind === 'answer' || message.kind === 'failure') {
    return { kind: 'failure', id: message.id, error: toWire(new KhloneError('invalid-request', why)) };
  }
  return { kind: 'invalid', id: null, asks: false, why, body: undefined };
};

/** What the other side may know of a thrown value: ours as it is, a stranger's message without its stack. */
export const publicError = (thrown: unknown): KhloneError => {
  const error = asKhloneError(thrown);
  const message = error.message.slice(0, ERROR_MESSAGE_CHARS);
  const data = error.code === 'internal' ? undefined : error.data;
  return new KhloneError(error.code, message, error.hint?.slice(0, ERROR_MESSAGE_CHARS), data);
};
