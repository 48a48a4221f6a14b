import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** The rules of the house: what may import what, how long a file may be, and which names say nothing. */

const ROOT = join(import.meta.dirname, '..');

/** Each room, the rooms that it may import, and the outside packages that only it may use. */
const ROOMS: Record<string, { rooms: string[]; packages: string[] }> = {
  protocol: { rooms: [], packages: [] },
  patch: { rooms: ['protocol'], packages: [] },
  brains: { rooms: ['protocol'], packages: [] },
  provision: { rooms: ['protocol'], packages: ['@aws-sdk/client-ec2'] },
  server: { rooms: ['protocol', 'brains', 'patch'], packages: [] },
  client: { rooms: ['protocol', 'patch', 'provision'], packages: ['clipanion', 'yaml'] },
};
const GUARDED = ['clipanion', 'yaml', 'ssh2', 'node-diff3', 'node-pty', 'node:sqlite', '@aws-sdk/client-ec2'];

/** Where the rules of a room are looked at, and the one package more that a single place may use. */
const PLACES: { file: string; room: string; also?: string }[] = [
  ...Object.keys(ROOMS).map((room) => ({ file: `src/${room}/planted.ts`, room })),
  { file: 'src/protocol/resident.ts', room: 'protocol', also: 'node:sqlite' },
  { file: 'src/patch/ranges-worker.ts', room: 'patch', also: 'node-diff3' },
  { file: 'src/server/deeper/planted.ts', room: 'server' },
  { file: 'src/server/store/planted.ts', room: 'server', also: 'node:sqlite' },
  { file: 'src/client/commands/planted.ts', room: 'client' },
  { file: 'src/client/link/planted.ts', room: 'client' },
  { file: 'src/client/terminal/planted.ts', room: 'client' },
];

type Plant = { file: string; line: string };

const importsOf = (place: (typeof PLACES)[number]): { forbidden: string[]; allowed: string[] } => {
  const own = ROOMS[place.room] ?? { rooms: [], packages: [] };
  const mayImport = new Set([place.room, ...own.rooms, ...own.packages, place.also]);
  const up = '../'.repeat(place.file.split('/').length - 2);
  const candidates = [...Object.keys(ROOMS), ...GUARDED].filter((name) => name !== place.room);
  const specifier = (name: string) => (name in ROOMS ? `${up}${name}/a.ts` : name);
  return {
    forbidden: candidates.filter((name) => !mayImport.has(name)).map(specifier),
    allowed: [...candidates.filter((name) => mayImport.has(name)).map(specifier), './server.ts', 'zod'],
  };
};

const planted = (file: string, specifiers: string[]): Plant[] =>
  specifiers.map((specifier) => ({ file, line: `import '${specifier}';` }));

describe('the linter', () => {
  let house = '';
  beforeEach(() => {
    // The real configuration over folders of the same names: what is planted here meets no other build or test.
    house = mkdtempSync(join(tmpdir(), 'khlone-house-'));
    copyFileSync(join(ROOT, 'biome.json'), join(house, 'biome.json'));
  });
  afterEach(() => rmSync(house, { recursive: true, force: true }));

  /** Writes every line into its file, lints once, and gives the lines that the rule complains about. */
  const complainedAbout = (rule: string, plants: Plant[]): Plant[] => {
    const files = Map.groupBy(plants, ({ file }) => file);
    for (const [file, lines] of files) {
      mkdirSync(dirname(join(house, file)), { recursive: true });
      writeFileSync(join(house, file), lines.map(({ line }) => `${line}\n`).join(''));
    }
    const { stdout } = spawnSync(
      join(ROOT, 'node_modules/.bin/biome'),
      ['lint', '--reporter=github', '--max-diagnostics=none', '.'],
      { cwd: house, encoding: 'utf8' },
    );
    const complaints = [...stdout.matchAll(/title=lint\/\w+\/(\w+),file=(.*?),line=(\d+)/g)];
    return complaints.flatMap(([, name, path = '', line]) => {
      const plant = files.get(relative(house, resolve(house, path)))?.[Number(line) - 1];
      return name === rule && plant !== undefined ? [plant] : [];
    });
  };

  test('refuses every import that a room may not make', () => {
    const plants = PLACES.flatMap((place) => planted(place.file, importsOf(place).forbidden));
    plants.push(
      ...planted('src/client/link/ssh2.ts', [
        '../../server/a.ts',
        '../../brains/a.ts',
        'yaml',
        'node-pty',
        'node:sqlite',
      ]),
      ...planted('src/client/terminal/pty.ts', ['../../server/a.ts', 'ssh2', 'yaml', 'node:sqlite']),
      ...planted('src/server/tmux/tmux-parser.ts', ['./a.ts', '../../protocol/a.ts', 'zod', 'node:buffer']),
    );
    const refused = new Set(complainedAbout('noRestrictedImports', plants));
    expect(plants.filter((plant) => !refused.has(plant))).toEqual([]);
    expect(plants.length).toBeGreaterThan(60);
  });

  test('refuses a forbidden import in each of its forms', () => {
    const forms = [
      "import type { A } from '../server/a.ts';",
      "export { b } from '../server/a.ts';",
      "export * from '../server/a.ts';",
      "export const c = () => import('../server/a.ts');",
    ];
    const plants = forms.map((line) => ({ file: 'src/protocol/planted.ts', line }));
    expect(complainedAbout('noRestrictedImports', plants)).toEqual(plants);
  });

  test('lets every import through that a room may make', () => {
    const plants = PLACES.flatMap((place) => planted(place.file, importsOf(place).allowed));
    plants.push(...planted('src/client/link/ssh2.ts', ['ssh2', '../../protocol/a.ts']));
    plants.push(...planted('src/client/terminal/pty.ts', ['node-pty', './here.ts', '../../protocol/a.ts']));
    expect(complainedAbout('noRestrictedImports', plants)).toEqual([]);
  });

  test('refuses the console in every room', () => {
    const plants = PLACES.map(({ file }) => ({ file, line: 'console.log(1);' }));
    expect(complainedAbout('noConsole', plants)).toHaveLength(plants.length);
  });

  test('refuses a function of more than 60 lines in every room', () => {
    const long = `export const a = () => {${'\n  globalThis.name;'.repeat(61)}\n};`;
    const plants = PLACES.map(({ file }) => ({ file, line: long }));
    expect(complainedAbout('noExcessiveLinesPerFunction', plants)).toHaveLength(plants.length);
  });
});

const filesBelow = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));

const SOURCES = filesBelow('src');
const OURS = ['src', 'test', 'bench', 'scripts']
  .filter((folder) => existsSync(join(ROOT, folder)))
  .flatMap(filesBelow)
  .concat('build.ts', 'vitest.config.ts');

const textOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

describe('the files', () => {
  /** A pure table or a parser may be longer than a person likes to read; each says why. */
  const LONGER_WITH_REASON: Record<string, string> = {
    'src/server/tmux/tmux-parser.ts':
      'a parser with its tables, which imports nothing and so stands in one file',
  };

  // The stories of one subject that share a costly fixture (a real CLI, an sshd) stand in one file.
  const linesAllowed = (path: string): number => (path.startsWith('test/') ? 400 : 300);

  test('are no longer than 300 lines, those of tests 400', () => {
    const long = OURS.map((path) => ({ path, lines: textOf(path).trimEnd().split('\n').length }));
    const tooLong = long
      .filter(({ path, lines }) => lines > linesAllowed(path))
      .map(({ path, lines }) => `${path}: ${lines}`);
    expect(tooLong.filter((row) => LONGER_WITH_REASON[row.split(':')[0] ?? ''] === undefined)).toEqual([]);
  });

  test('have names that say something', () => {
    const EMPTY_NAMES =
      /(^|[/.-])(utils?|helpers?|common|types|core|manager|services?|misc|shared|index)([/.-]|$)/;
    expect(SOURCES.filter((path) => EMPTY_NAMES.test(path))).toEqual([]);
  });

  test('leave nothing for later in a comment', () => {
    const later = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\\b`);
    expect(OURS.filter((path) => later.test(textOf(path)))).toEqual([]);
  });

  test('import each other without a cycle', () => {
    expect(cycles(new Map(SOURCES.map((path) => [path, importsIn(path)])))).toEqual([]);
  });

  test('would be caught in a cycle', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c', 'd']],
      ['c', ['b']],
      ['d', []],
    ]);
    expect(cycles(graph)).toEqual(['b > c > b']);
  });
});

/** The files of ours that a file imports when it loads. Types vanish and import() waits, so neither closes a cycle. */
const importsIn = (path: string): string[] =>
  [...textOf(path).matchAll(/^(?:import|export)\s(?!type\b)[^;]*?from '(\.[^']+)'/gm)].map(
    ([, specifier = '']) => join(dirname(path), specifier),
  );

const cycles = (graph: ReadonlyMap<string, string[]>): string[] => {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (node: string, trail: string[]): void => {
    const seenAt = trail.indexOf(node);
    if (seenAt >= 0) found.push([...trail.slice(seenAt), node].join(' > '));
    if (seenAt >= 0 || done.has(node)) return;
    for (const next of graph.get(node) ?? []) walk(next, [...trail, node]);
    done.add(node);
  };
  for (const node of graph.keys()) walk(node, []);
  return found;
};

describe('the package', () => {
  type Package = Record<
    'dependencies' | 'devDependencies' | 'optionalDependencies',
    Record<string, string>
  > & {
    name: string;
    engines: { node: string };
  };
  const manifest = JSON.parse(textOf('package.json')) as Package;

  test('is khlone for Node 24 and newer', () => {
    expect(manifest.name).toBe('khlone');
    expect(manifest.engines.node).toBe('>=24');
    expect(textOf('.node-version').trim()).toMatch(/^24\.\d+\.\d+$/);
  });

  test('names every dependency by its exact version', () => {
    const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  test('names what is optional by its exact version, a beta where only that has its binaries with it', () => {
    const versions = Object.values(manifest.optionalDependencies);
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+(-beta\.\d+)?$/.test(version))).toEqual([]);
  });

  test('gives a reason for every dependency in docs/decisions.md', () => {
    const decisions = textOf('docs/decisions.md');
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    const names = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
    expect(names.filter((name) => !decisions.includes(`\`${name}\``))).toEqual([]);
  });

  test('has a lockfile made from this very package.json', () => {
    const lock = JSON.parse(textOf('package-lock.json')) as { packages: Record<string, Package> };
    expect(lock.packages['']?.dependencies).toEqual(manifest.dependencies);
    expect(lock.packages['']?.devDependencies).toEqual(manifest.devDependencies);
    expect(lock.packages['']?.optionalDependencies).toEqual(manifest.optionalDependencies);
  });

  test('names no registry host in the lockfile', () => {
    expect(textOf('package-lock.json')).not.toContain('"resolved": "http');
  });

  test('has generated pages that are up to date', () => {
    const check = spawnSync(process.execPath, ['scripts/docs.ts', '--check'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect(check.stderr).toBe('');
    expect(check.status).toBe(0);
  });
});
