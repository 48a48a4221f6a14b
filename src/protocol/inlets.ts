import { createInlet, type Inlet } from './body.ts';
import { fromWire, KhloneError } from './error.ts';
import { encodeCredit, encodeFrame, type Frame } from './frame.ts';
import { BODIES_IN_FLIGHT, CREDIT_STEP_BYTES } from './limits.ts';
import type { BodyMark } from './message.ts';
import type { Sender } from './sender.ts';

/** All bodies the other side is writing to us on one connection. */
export type Inlets = {
  /** Take the body a message announces. `over` is called once when it ended, broke or was left. Undefined: too many. */
  accept(mark: BodyMark, over: () => void): Inlet | undefined;
  /** Announced, but nobody wants it. */
  refuse(mark: BodyMark): void;
  /** A data, end or reset frame. Throws `parse-error` where the writer broke the rules. */
  take(frame: Frame): void;
  failAll(error: KhloneError): void;
};

const reasonOf = (payload: Buffer): KhloneError => {
  try {
    return fromWire(JSON.parse(payload.toString('utf8')));
  } catch {
    return new KhloneError('internal', 'the other side gave up sending');
  }
};

export const createInlets = (sender: Sender): Inlets => {
  const open = new Map<number, { inlet: Inlet; over: () => void }>();
  let lastStream = 0;
  let unconfirmedBytes = 0;

  /** Writers count up, so an id at or below the last one was open once: its frames may still be under way. */
  const announce = (stream: number): void => {
    if (stream <= lastStream) throw new KhloneError('parse-error', `stream ${stream} was announced twice`);
    lastStream = stream;
  };

  const forget = (stream: number): void => {
    const entry = open.get(stream);
    if (open.delete(stream)) entry?.over();
  };

  const leave = (stream: number): void => {
    sender.send(encodeFrame('stop', stream));
    forget(stream);
  };

  /** The receipt, whoever reads the bytes: the other side measures by it how much is under way. */
  const confirm = (bytes: number): void => {
    unconfirmedBytes += bytes;
    if (unconfirmedBytes < CREDIT_STEP_BYTES) return;
    sender.send(encodeCredit(0, unconfirmedBytes));
    unconfirmedBytes = 0;
  };

  return {
    accept: ({ stream, klass }, over) => {
      announce(stream);
      if (open.size >= BODIES_IN_FLIGHT) {
        sender.send(encodeFrame('stop', stream));
        return undefined;
      }
      const grant = (bytes: number): void => sender.send(encodeCredit(stream, bytes));
      const inlet = createInlet(klass, grant, () => leave(stream));
      open.set(stream, { inlet, over });
      return inlet;
    },
    refuse: ({ stream }) => {
      announce(stream);
      sender.send(encodeFrame('stop', stream));
    },
    take: ({ type, stream, payload }) => {
      if (type === 'data') confirm(payload.length);
      const inlet = open.get(stream)?.inlet;
      if (!inlet) {
        if (stream >= 1 && stream <= lastStream) return;
        throw new KhloneError('parse-error', `a ${type} frame for stream ${stream}, which never was`);
      }
      if (type === 'data') {
        if (inlet.push(payload)) return;
        throw new KhloneError('parse-error', `stream ${stream} sent more than its window`);
      }
      if (type === 'end') inlet.end();
      else inlet.fail(reasonOf(payload));
      forget(stream);
    },
    failAll: (error) => {
      for (const [stream, { inlet }] of [...open]) {
        inlet.fail(error);
        forget(stream);
      }
    },
  };
};
