import { expect, test } from 'vitest';
import { farWay } from '../../../src/client/attach/far-way.ts';
import type { HubLine } from '../../../src/client/attach/hub-line.ts';
import type { AttachOrder } from '../../../src/client/attach/order.ts';

const ORDER: AttachOrder = {
  ...{ zone: 'z-0000000000000000', host: 'zone', name: 'mechanic.1', quiet: false, utf8: true },
  sight: { kind: 'view', clone: 'mechanic.1' },
};
const NOTHING = (async function* () {})();

test('of sizes that come faster than they travel the last two go: one and back draws all anew', async () => {
  const sent: number[] = [];
  const arrive: (() => void)[] = [];
  const line: HubLine = {
    call: async (name, params) => {
      if (name !== 'attach.resize') return { value: {}, body: NOTHING };
      sent.push((params as { rows: number }).rows);
      await new Promise<void>((resolve) => arrive.push(resolve));
      return { value: {}, body: undefined };
    },
    isOpen: () => true,
    close: () => {},
  };
  const way = farWay(line, ORDER, 'v-0000000000000000', 'xterm');
  const visit = await way.open({ columns: 80, rows: 24 }, new AbortController().signal);
  for (const rows of [20, 30, 40, 19, 20]) visit.resize({ columns: 80, rows });
  for (const seen of [[20], [20, 19], [20, 19, 20]]) {
    await expect.poll(() => sent).toEqual(seen);
    arrive.shift()?.();
  }
  visit.resize({ columns: 80, rows: 25 });
  await expect.poll(() => sent).toEqual([20, 19, 20, 25]);
  arrive.shift()?.();
  visit.close();
});
