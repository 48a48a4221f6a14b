import { describe, expect, test } from 'vitest';
import { isTaskId, matchTaskPrefix, mintNonce, taskIdOf } from '../../src/protocol/id.ts';

const ids = ['task-7f3k2m9qx4', 'task-7f3k2m9qxa', 'task-2m8d0qk5hn'];

describe('task ids', () => {
  test('come from their nonce alone, and fresh nonces give fresh ids', () => {
    expect(taskIdOf('nonce')).toBe(taskIdOf('nonce'));
    // The value is a contract: a shell, a hub and a node command of other builds must name the same task.
    expect(taskIdOf('nonce')).toMatchInlineSnapshot(`"task-rqvjqqmm2z"`);
    const fresh = Array.from({ length: 5_000 }, () => taskIdOf(mintNonce()));
    expect(new Set(fresh).size).toBe(5_000);
    expect(fresh.every(isTaskId)).toBe(true);
    expect(new Set(fresh.join('').replaceAll('task-', '')).size).toBe(32);
  });

  test('are told from other words', () => {
    for (const word of [
      '',
      'task-',
      'task-7f3k2m9qx',
      'task-7f3k2m9qx44',
      'task-7F3K2M9QX4',
      'task-7f3k2m9qxi',
      'x',
    ]) {
      expect(isTaskId(word)).toBe(false);
    }
  });

  test('are found by a unique prefix, with or without its first word', () => {
    for (const prefix of ['2', '2m8', 'task-2', 'task-2m8d0qk5hn', '2M8D']) {
      expect(matchTaskPrefix(prefix, ids)).toBe('task-2m8d0qk5hn');
    }
    expect(matchTaskPrefix('7f3k2m9qxa', ids)).toBe('task-7f3k2m9qxa');
  });

  test('that are not told apart by a prefix are listed', () => {
    expect(() => matchTaskPrefix('7f', ids)).toThrow(
      expect.objectContaining({ code: 'usage', hint: 'task-7f3k2m9qx4, task-7f3k2m9qxa' }),
    );
    for (const prefix of ['9', '', 'task-', '\u001b[2J', 'x'.repeat(1_000)]) {
      expect(() => matchTaskPrefix(prefix, ids)).toThrow(expect.objectContaining({ code: 'not-found' }));
    }
  });
});
