import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')) as {
  version: string;
};

export default defineConfig({
  define: {
    __KHLONE_VERSION__: JSON.stringify(version),
    __KHLONE_BUILD__: JSON.stringify(`${version}+test`),
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Real tmux, sshd and brains share two cores with us: more files at once only makes them wait on each other.
    maxWorkers: 2,
  },
});
