import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import { openStore, type Store } from '../../src/server/store/store.ts';
import { insertTask } from '../../src/server/store/tasks.ts';
import { enroll, findOrMakeZone, type ZoneRow } from '../../src/server/store/zones.ts';
import { newId, POLICY } from '../fixtures/server.ts';

/** A store on a real disk without a server around it. */

export type StoreGround = {
  root: string;
  zonesDir: string;
  store: Store;
  /** Closes the store, does something without it, and opens it again. */
  reopen(between?: () => void): void;
  dispose(): void;
};

export const openGround = (): StoreGround => {
  const root = mkdtempSync(join(tmpdir(), 'khlone-store-'));
  const zonesDir = join(root, 'zones');
  mkdirSync(zonesDir);
  const open = (): Store => openStore(join(root, 'state.db'), zonesDir);
  const ground: StoreGround = {
    ...{ root, zonesDir, store: open() },
    reopen: (between) => {
      ground.store.close();
      between?.();
      ground.store = open();
    },
    dispose: () => {
      ground.store.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
  return ground;
};

export const ZONE_ID = 'z-0123456789abcdef';

/** The one zone of a ground; its worktree is the ground's root unless another path is named. */
export const addZone = async (
  { store, zonesDir, root }: StoreGround,
  { policy = POLICY, path = root } = {},
): Promise<ZoneRow> => {
  const spec: ZoneSpec = { id: ZONE_ID, address: 'a/b@main', branch: 'main', mode: 'local', path };
  return (await store.write(() => findOrMakeZone(store, zonesDir, spec, policy, 1))).zone;
};

/** A queued act of a new mechanic on sh. */
export const addTask = async ({ store }: StoreGround, uuid: string = crypto.randomUUID()) => {
  const id = newId();
  const clone = await store.write((tx) => {
    const made = enroll(store, { zone: ZONE_ID, role: 'mechanic', brain: 'sh', hero: true }, 1);
    const task = {
      ...{ id, hash: 'h', zone: ZONE_ID, kind: 'act' as const, prompt: 'true', title: 'true', clone: made },
      ...{ session: 's', limit_ms: null, uuid, retry_of: null, prioritized: false, repeatable: false },
    };
    insertTask(store, tx, task, 1);
    return made;
  });
  return { id, clone };
};
