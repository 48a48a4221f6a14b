import { expect, test } from 'vitest';
import { homeOf } from '../../src/protocol/home.ts';

const paths = (home: object): string[] => Object.values(home).filter((value) => typeof value === 'string');

test('a home is KHLONE_HOME, else ~/.khlone, and everything lies inside it', () => {
  expect(homeOf({ HOME: '/h/ana' }).root).toBe('/h/ana/.khlone');
  expect(homeOf({ HOME: '/h/ana', KHLONE_HOME: '' }).root).toBe('/h/ana/.khlone');
  const home = homeOf({ HOME: '/h/ana', KHLONE_HOME: '/srv/k' });
  for (const path of [...paths(home), home.bootLog('hub'), home.bootLog('server')]) {
    expect(path === '/srv/k' || path.startsWith('/srv/k/')).toBe(true);
  }
  expect(new Set(paths(home)).size).toBe(paths(home).length);
});

test('one home has one spelling, and is never relative to where somebody stands', () => {
  expect(homeOf({ KHLONE_HOME: '/srv//k/../k/' })).toMatchObject({
    root: '/srv/k',
    stateDb: homeOf({ KHLONE_HOME: '/srv/k' }).stateDb,
  });
  for (const bad of ['k', './k', '~/k', '../k']) {
    expect(() => homeOf({ KHLONE_HOME: bad })).toThrow(expect.objectContaining({ code: 'config' }));
  }
});
