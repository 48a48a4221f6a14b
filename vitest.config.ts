import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Real tmux, sshd and brains share two cores with us: more files at once only makes them wait on each other.
    maxWorkers: 2,
  },
});
