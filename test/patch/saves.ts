import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';

/** The ways in which editors save a file. Where its name is gone for a moment, they make it anew. */

export type Save = {
  /** What the editor did when the person opened the file. */
  open?: (path: string) => number;
  save: (path: string, text: string, descriptor: number) => void;
};

const anew =
  (save: Save['save']): Save['save'] =>
  (path, text, descriptor) => {
    try {
      save(path, text, descriptor);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
      writeFileSync(path, text);
    }
  };

const openOrMake = (path: string): number => openSync(path, 'a+');

export const SAVES = {
  'by replacing the file': {
    save: (path, text) => {
      writeFileSync(`${path}.tmp`, text);
      renameSync(`${path}.tmp`, path);
    },
  },
  'in place': { save: (path, text) => writeFileSync(path, text) },
  'by appending': { save: (path, text) => appendFileSync(path, text) },
  'through a descriptor that it opens': {
    save: anew((path, text) => {
      const file = openSync(path, 'r+');
      writeSync(file, text, 0);
      closeSync(file);
    }),
  },
  'through a descriptor that was open before': {
    open: openOrMake,
    save: (_, text, descriptor) => {
      ftruncateSync(descriptor);
      writeSync(descriptor, text);
    },
  },
  'with a backup, as vim does': {
    save: anew((path, text) => {
      renameSync(path, `${path}~`);
      writeFileSync(path, text);
      rmSync(`${path}~`);
    }),
  },
} satisfies Record<string, Save>;

export type How = keyof typeof SAVES;
