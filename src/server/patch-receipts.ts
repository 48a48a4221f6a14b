import { join } from 'node:path';
import * as z from 'zod';
import { readText, rename, syncPath, writeDurable } from '../patch/near-disk.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { Refusal } from '../protocol/patch.ts';

/** The last change of each replica that a zone has taken in: what makes a repeated one harmless. */

export const Receipt = z.object({
  replica: z.string(),
  seq: z.number(),
  sha256: z.string(),
  done: z.number(),
  refused: z.array(Refusal),
});
export type Receipt = z.infer<typeof Receipt>;

/** Replicas that are remembered, the latest first: more worktrees than people have for one zone. */
const MAX_RECEIPTS = 256;

const fileIn = (dir: string): string => join(dir, 'receipts.json');

/** Throws where the file is not what we wrote: a change could be applied a second time. */
export const readReceipts = async (dir: string): Promise<Receipt[]> => {
  const text = await readText(fileIn(dir)).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ENOENT') return '[]';
    throw thrown;
  });
  return z.array(Receipt).parse(JSON.parse(text));
};

/** Durable when it returns. */
export const writeReceipt = async (dir: string, receipt: Receipt): Promise<void> => {
  const others = (await readReceipts(dir)).filter(({ replica }) => replica !== receipt.replica);
  const all = [receipt, ...others].slice(0, MAX_RECEIPTS);
  await writeDurable(`${fileIn(dir)}.new`, JSON.stringify(all), { mode: 0o600 });
  faultPoint('patch.receipt');
  await rename(`${fileIn(dir)}.new`, fileIn(dir));
  await syncPath(dir);
};
