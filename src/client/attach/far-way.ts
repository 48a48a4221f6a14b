import type { Typed } from '../../protocol/attach.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Size } from '../terminal/here.ts';
import { endOf } from './ended.ts';
import type { HubLine } from './hub-line.ts';
import type { AttachOrder } from './order.ts';
import { createTypedKeys } from './typed.ts';
import type { Way } from './visit.ts';

/** A viewer on the zone's own machine: its picture and the keys travel through the hub. */

/** The hub may first have to dial the host, and the server to start tmux. */
const OPEN_WITHIN_MS = 20_000;
const RESIZE_WITHIN_MS = 5_000;
const BELL = '\u0007';

/** How far the viewer came, by an answer that the hub has parsed; this program starts without the parser. */
const typedIn = (value: unknown): Typed | undefined => {
  const { of, bytes } = (value as { typed?: Partial<Typed> } | undefined)?.typed ?? {};
  return typeof of === 'string' && typeof bytes === 'number' ? { of, bytes } : undefined;
};

/**
 * Sends the last of many sizes: a window that is being dragged changes faster than a far host can follow. The one before
 * it goes too, since another size and back is how all is drawn anew.
 */
const createResizer = (send: (size: Size) => Promise<unknown>): ((size: Size) => void) => {
  let wanted: Size[] = [];
  let sending = false;
  const work = async (): Promise<void> => {
    sending = true;
    for (let size = wanted.shift(); size; size = wanted.shift()) {
      // A size that did not arrive goes with the next opening.
      await send(size).catch(() => {});
    }
    sending = false;
  };
  return (size) => {
    wanted = [...wanted.slice(-1), size];
    if (!sending) void work();
  };
};

export const farWay = (line: HubLine, order: AttachOrder, viewer: string, term: string): Way => {
  const typed = createTypedKeys();
  const open: Way['open'] = async (size, signal) => {
    const { zone, sight, utf8 } = order;
    const keys = typed.open();
    const params = { zone, viewer, sight, terminal: { ...size, term, utf8 } };
    const options = { body: keys.body, klass: 'interactive', signal, timeoutMs: OPEN_WITHIN_MS } as const;
    const { value, body } = await line.call('attach.open', params, options).catch((thrown: unknown) => {
      keys.end();
      throw thrown;
    });
    if (!body) throw new KhloneError('invalid-request', 'the server showed nothing', 'khlone doctor');
    keys.begin(typedIn(value));
    return {
      output: body,
      type: (bytes) => {
        if (!typed.push(bytes)) process.stdout.write(BELL);
      },
      resize: createResizer((now) =>
        line.call('attach.resize', { viewer, ...now }, { timeoutMs: RESIZE_WITHIN_MS }),
      ),
      close: keys.end,
    };
  };
  return { open, end: endOf(line, viewer) };
};
