import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resolveConflict } from '../../../src/client/patches/resolve.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { take } from '../../../src/server/zone-patches.ts';
import { ZONE } from '../../patch/ground.ts';
import { farAt, freely, placeAt, stepped } from './two-sides.ts';

/** Steps of an exchange in a process of its own, because it is killed: `step-program.ts NEAR FAR ZONES STEP…`. */

const [near = '', far = '', zonesDir = '', ...steps] = process.argv.slice(2);
const patchPlace = { zone: ZONE, path: far, zonesDir };
const [place, link] = [placeAt(near), farAt(patchPlace)];

async function* bytesOf(file: string): AsyncGenerator<Uint8Array> {
  yield readFileSync(file);
}

for (const step of steps) {
  if (step === 'sync') stepped(await sync(place, link, freely));
  if (step === 'pull') stepped(await pull(place, link, freely));
  if (step.startsWith('resolve-')) {
    const keep = step === 'resolve-remote' ? 'remote' : 'local';
    const { conflicts } = await readState(join(near, '.git'), ZONE);
    for (const { paths } of conflicts) await resolveConflict(place, paths[0] ?? '', { keep });
  }
  if (step.startsWith('edit:')) {
    const name = step.slice('edit:'.length);
    writeFileSync(join(near, name), `${name}\n`);
  }
  // The far side alone: `take:FILE` with the parameters, and the payload beside it.
  if (step.startsWith('take:')) {
    const file = step.slice('take:'.length);
    const taken = await take(patchPlace, JSON.parse(readFileSync(file, 'utf8')), bytesOf(`${file}.payload`));
    process.stdout.write(JSON.stringify(taken));
  }
}
